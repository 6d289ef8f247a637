"""Values out of the settings that services are made of."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

import certifi
from pydantic import SecretStr

from simples3dms.crypto.keyring import Keyring, load_keyring, load_or_create_keyring
from simples3dms.crypto.places import ServiceAccess
from simples3dms.egress import EgressGuard, EgressPolicy
from simples3dms.errors import Invalid
from simples3dms.identity.limits.values import Rate, Rates
from simples3dms.kit.secret import Secret
from simples3dms.mail import Mailer, SmtpMailer, SmtpSettings
from simples3dms.providers.registry import BuildOptions
from simples3dms.providers.stack import StackSettings
from simples3dms.settings import Settings


def rates(settings: Settings) -> Rates:
    return Rates(
        account=Rate(settings.sign_in_account_attempts, settings.sign_in_account_seconds),
        network=Rate(settings.sign_in_network_attempts, settings.sign_in_network_seconds),
        everybody=Rate(settings.sign_in_global_attempts, settings.sign_in_global_seconds),
    )


def open_keyring(settings: Settings) -> Keyring:
    """The key ring of this installation, with what it takes to reach the keys that services keep. Blocks."""
    access = service_access(settings)
    if settings.keyring is not None:
        return load_keyring(settings.keyring.get_secret_value(), access)
    return load_or_create_keyring(settings.keyring_path, access)


def service_access(settings: Settings) -> ServiceAccess:
    def secret(value: SecretStr | None) -> Secret | None:
        return None if value is None else Secret(value.get_secret_value())

    return ServiceAccess(
        kms_access_key_id=settings.kms_access_key_id,
        kms_secret_access_key=secret(settings.kms_secret_access_key),
        kms_session_token=secret(settings.kms_session_token),
        transit_token=secret(settings.transit_token),
        transit_token_file=settings.transit_token_file,
        ca_file=settings.key_service_ca_file,
    )


def words(text: str) -> frozenset[str]:
    return frozenset(word for part in text.split(",") if (word := part.strip()))


def mailer(settings: Settings) -> Mailer | None:
    if settings.smtp_host is None:
        return None
    if settings.public_url is None:
        raise Invalid(
            "SIMPLES3DMS_SMTP_HOST needs SIMPLES3DMS_PUBLIC_URL: letters hold links.", code="settings_invalid"
        )
    return SmtpMailer(
        SmtpSettings(
            host=settings.smtp_host,
            port=settings.smtp_port,
            sender=settings.smtp_from,
            tls=settings.smtp_tls,
            username=settings.smtp_username,
            password=Secret(settings.smtp_password.get_secret_value()) if settings.smtp_password else None,
            ca_file=str(settings.smtp_ca_file) if settings.smtp_ca_file else None,
        )
    )


def stack_settings(settings: Settings) -> StackSettings:
    return StackSettings(
        connect_timeout_seconds=settings.storage_connect_timeout_seconds,
        read_timeout_seconds=settings.storage_read_timeout_seconds,
        retry_attempts=settings.storage_retry_attempts,
        retry_base_seconds=settings.storage_retry_base_seconds,
        retry_longest_seconds=settings.storage_retry_longest_seconds,
        breaker_failures=settings.storage_breaker_failures,
        breaker_cool_seconds=settings.storage_breaker_cool_seconds,
        most_concurrent=settings.storage_most_concurrent,
        requests_per_second=settings.storage_requests_per_second,
        bytes_per_second=settings.storage_bytes_per_second,
    )


def build_options(settings: Settings) -> BuildOptions:
    """Trust the operator's own authorities beside the machine's: one file for all, as obstore takes no list."""
    if settings.storage_ca_file is None:
        return BuildOptions()
    try:
        own = settings.storage_ca_file.read_text()
        ssl.create_default_context(cadata=own)
    except (OSError, ValueError, ssl.SSLError):
        raise Invalid(
            f"SIMPLES3DMS_STORAGE_CA_FILE: {settings.storage_ca_file} holds no readable certificates in PEM.",
            code="settings_invalid",
        ) from None
    machine = ssl.get_default_verify_paths().cafile or certifi.where()
    bundle = settings.data_dir / "authorities.pem"
    beside = bundle.with_suffix(f".{os.getpid()}")
    beside.write_text(f"{Path(machine).read_text()}\n{own}")
    beside.replace(bundle)
    os.environ["SSL_CERT_FILE"] = str(bundle)
    return BuildOptions(ca_file=str(bundle))


def guard_of(settings: Settings) -> EgressGuard:
    """What tenants bring always passes it, whatever the setting says of the platform's own stores."""
    try:
        policy = EgressPolicy.parse(allow=settings.egress_allow, ports=settings.egress_ports)
    except ValueError as error:
        raise Invalid(f"SIMPLES3DMS_EGRESS_ALLOW or _PORTS: {error}.", code="settings_invalid") from None
    return EgressGuard(policy)
