"""Every error that botocore, obstore and S3 servers know has its place in our tree, and none of their text goes on."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NoReturn

import botocore.exceptions
import botocore.parsers
import botocore.session
import obstore
import obstore.exceptions
import pytest
from botocore.exceptions import ClientError
from botocore.retries import standard
from obstore.store import S3Store

from simples3dms.providers import errors as ours
from simples3dms.providers.kinds.s3 import errors as s3
from simples3dms.providers.kinds.s3.errors import from_vendor, retry_after

#: Not errors: Python warnings.
_WARNINGS = {"UnsupportedTLSVersionWarning", "ImminentRemovalWarning"}

#: AWS's API reference, "Error responses" (S3, replication, tagging, Select leftovers, KMS), a second time and by hand.
_DOCUMENTED = """
AccessControlListNotSupported AccessDenied AccessPointAlreadyOwnedByYou AccountProblem AllAccessDisabled
AmbiguousGrantByEmailAddress AuthorizationHeaderMalformed AuthorizationQueryParametersError BadDigest
BucketAlreadyExists BucketAlreadyOwnedByYou BucketHasAccessPointsAttached BucketNotEmpty ClientTokenConflict
ConditionalRequestConflict ConnectionClosedByRequester CredentialsNotSupported CrossLocationLoggingProhibited
DeviceNotActiveError EndpointNotFound EntityTooLarge EntityTooSmall ExpiredToken
IllegalLocationConstraintException IllegalVersioningConfigurationException IncompleteBody IncorrectEndpoint
IncorrectNumberOfFilesInPostRequest InlineDataTooLarge InternalError InvalidAccessKeyId InvalidAccessPoint
InvalidAccessPointAliasError InvalidAddressingHeader InvalidArgument InvalidBucketAclWithObjectOwnership
InvalidBucketName InvalidBucketOwnerAWSAccountID InvalidBucketState InvalidDigest InvalidEncryptionAlgorithmError
InvalidHostHeader InvalidHttpMethod InvalidLocationConstraint InvalidObjectState InvalidPart InvalidPartOrder
InvalidPayer InvalidPolicyDocument InvalidRange InvalidRegion InvalidRequest InvalidSessionException InvalidSecurity
InvalidSignature InvalidSOAPRequest InvalidStorageClass InvalidTag InvalidTargetBucketForLogging InvalidToken InvalidURI
KeyTooLongError KMS.DisabledException KMS.InvalidKeyUsageException KMS.KMSInvalidStateException KMS.NotFoundException
MalformedACLError MalformedPolicy MalformedPOSTRequest MalformedXML MaxMessageLengthExceeded
MaxPostPreDataLengthExceededError MetadataTooLarge MethodNotAllowed MissingAttachment MissingAuthenticationToken
MissingContentLength MissingRequestBodyError MissingSecurityElement MissingSecurityHeader NoLoggingStatusForKey
NoSuchAccessPoint NoSuchAsyncRequest NoSuchBucket NoSuchBucketPolicy NoSuchCORSConfiguration NoSuchKey
NoSuchLifecycleConfiguration NoSuchMultiRegionAccessPoint NoSuchObjectLockConfiguration NoSuchResource NoSuchTagSet
NoSuchUpload NoSuchVersion NoSuchWebsiteConfiguration NotDeviceOwnerError NotImplemented NotModified NotSignedUp
ObjectLockConfigurationNotFoundError OperationAborted OwnershipControlsNotFoundError PermanentRedirect
PreconditionFailed Redirect ReplicationConfigurationNotFoundError RequestHeaderSectionTooLarge
RequestIsNotMultiPartContent RequestTimeout RequestTimeTooSkewed RequestTorrentOfBucketError ResponseInterrupted
RestoreAlreadyInProgress ServerSideEncryptionConfigurationNotFoundError ServiceUnavailable SignatureDoesNotMatch
SlowDown TagPolicyException TemporaryRedirect TokenCodeInvalidError TokenRefreshRequired TooManyAccessPoints
TooManyBuckets TooManyMultiRegionAccessPointregionsError TooManyMultiRegionAccessPoints UnauthorizedAccessError
UnexpectedContent UnresolvableGrantByEmailAddress UnsupportedArgument UnsupportedSignature UserKeyMustBeSpecified
NoSuchPublicAccessBlockConfiguration XAmzContentSHA256Mismatch XAmzContentChecksumMismatch InvalidTagError
"""

#: What other servers say: MinIO, Ceph, SeaweedFS, R2, Garage, Google's XML interface.
_OTHER_SERVERS = """
XMinioStorageFull XMinioAdminBucketQuotaExceeded XMinioServerNotInitialized XMinioReadQuorum XMinioWriteQuorum
XMinioObjectTampered XMinioParentIsObject XMinioObjectExistsAsDirectory XMinioInvalidObjectName XMinioBackendDown
SlowDownRead SlowDownWrite QuotaExceeded UserSuspended InsufficientCapacity ErrTooManyRequest ErrRequestBytesExceed
ExistingObjectIsDirectory ExistingObjectIsFile TooManyRequests Unauthorized BadRequest UserProjectMissing
InsufficientStorage ClientDisconnected CapExceeded InvalidObjectName RateLimitExceeded
"""

#: What each of these must be, whatever the tables are made of.
_KIND_OF_CODE: dict[type[ours.ProviderError], str] = {
    ours.ObjectNotFound: "NoSuchKey NoSuchVersion NoSuchUpload",
    ours.BucketMissing: """NoSuchBucket PermanentRedirect TemporaryRedirect Redirect IncorrectEndpoint
        IllegalLocationConstraintException InvalidLocationConstraint""",
    ours.BadCredential: """InvalidAccessKeyId SignatureDoesNotMatch ExpiredToken InvalidToken TokenRefreshRequired
        AuthorizationHeaderMalformed InvalidSecurity""",
    ours.AccessDenied: "AccessDenied InvalidObjectState AccountProblem KMS.DisabledException",
    ours.ClockSkew: "RequestTimeTooSkewed",
    ours.Throttled: "SlowDown SlowDownRead SlowDownWrite TooManyRequests Throttling RequestLimitExceeded",
    ours.StoreUnavailable: "InternalError ServiceUnavailable OperationAborted XMinioWriteQuorum",
    ours.StoreTimedOut: "RequestTimeout GatewayTimeout",
    ours.IntegrityError: "BadDigest IncompleteBody InvalidPart InvalidPartOrder XAmzContentSHA256Mismatch",
    ours.PreconditionFailed: "PreconditionFailed ConditionalRequestConflict NotModified BucketAlreadyExists",
    ours.CapExceeded: "CapExceeded",
    ours.StoreFull: "QuotaExceeded XMinioStorageFull InsufficientStorage InsufficientCapacity",
    ours.ObjectTooLarge: "EntityTooLarge",
    ours.Unsupported: "NotImplemented MethodNotAllowed KeyTooLongError InvalidStorageClass InvalidRange EntityTooSmall",
    ours.ProviderError: """InvalidRequest InvalidArgument MalformedXML MissingContentLength NoSuchTagSet
        NoSuchLifecycleConfiguration ObjectLockConfigurationNotFoundError NoSuchAnnotation""",
}

_KIND_OF_CLASS: dict[str, type[ours.ProviderError]] = {
    "botocore.ConnectTimeoutError": ours.StoreTimedOut,
    "botocore.ReadTimeoutError": ours.StoreTimedOut,
    "botocore.EndpointConnectionError": ours.StoreUnavailable,
    "botocore.ConnectionClosedError": ours.StoreUnavailable,
    "botocore.ResponseStreamingError": ours.StoreUnavailable,
    "botocore.IncompleteReadError": ours.StoreUnavailable,
    "botocore.ResponseParserError": ours.StoreUnavailable,
    "botocore.CapacityNotAvailableError": ours.Throttled,
    "botocore.NoCredentialsError": ours.BadCredential,
    "botocore.FlexibleChecksumError": ours.IntegrityError,
    "botocore.ParamValidationError": ours.Unsupported,
    "botocore.NoRegionError": ours.ProviderError,
    "obstore.GenericError": ours.StoreUnavailable,
    "obstore.NotFoundError": ours.ObjectNotFound,
    "obstore.PermissionDeniedError": ours.AccessDenied,
    "obstore.UnauthenticatedError": ours.BadCredential,
    "obstore.PreconditionError": ours.PreconditionFailed,
    "obstore.AlreadyExistsError": ours.PreconditionFailed,
    "obstore.NotModifiedError": ours.PreconditionFailed,
    "obstore.NotSupportedError": ours.Unsupported,
}

_KIND_OF_STATUS: dict[int, type[ours.ProviderError]] = {
    301: ours.BucketMissing,
    302: ours.BucketMissing,
    304: ours.PreconditionFailed,
    307: ours.BucketMissing,
    308: ours.BucketMissing,
    400: ours.ProviderError,
    401: ours.BadCredential,
    402: ours.CapExceeded,
    403: ours.AccessDenied,
    404: ours.ObjectNotFound,
    405: ours.Unsupported,
    408: ours.StoreTimedOut,
    409: ours.PreconditionFailed,
    410: ours.ProviderError,
    411: ours.ProviderError,
    412: ours.PreconditionFailed,
    413: ours.ObjectTooLarge,
    416: ours.Unsupported,
    429: ours.Throttled,
    500: ours.StoreUnavailable,
    501: ours.Unsupported,
    502: ours.StoreUnavailable,
    503: ours.StoreUnavailable,
    504: ours.StoreTimedOut,
    507: ours.StoreFull,
}


def _classes_in(module: Any) -> Iterator[type[BaseException]]:
    for one in vars(module).values():
        is_theirs = isinstance(one, type) and one.__module__.partition(".")[0] in ("botocore", "obstore")
        if is_theirs and issubclass(one, BaseException):
            yield one


def _all_classes() -> dict[str, type[BaseException]]:
    modules = (botocore.exceptions, botocore.parsers, obstore.exceptions)
    found = {f"{one.__module__.partition('.')[0]}.{one.__name__}": one for m in modules for one in _classes_in(m)}
    return {name: one for name, one in found.items() if one.__name__ not in _WARNINGS}


def _modelled_codes() -> set[str]:
    session = botocore.session.get_session()
    shapes = [shape for service in ("s3", "sts") for shape in session.get_service_model(service).error_shapes]
    repeated = standard.ThrottledRetryableChecker._THROTTLED_ERROR_CODES  # what botocore itself sends again
    transient = standard.TransientRetryableChecker._TRANSIENT_ERROR_CODES
    return {shape.error_code for shape in shapes} | set(repeated) | set(transient)


def _answer(code: str, status: int, headers: dict[str, str] | None = None, message: str = "") -> ClientError:
    metadata = {"HTTPStatusCode": status, "HTTPHeaders": headers or {}}
    return ClientError({"Error": {"Code": code, "Message": message}, "ResponseMetadata": metadata}, "GetObject")  # type: ignore[typeddict-item]


def _obstore_text(status: int, body: str, path: str = "o") -> str:
    """As obstore 0.12 words it."""
    first = f"Generic S3 error: Error performing GET http://h/b/{path} in 1ms - Server returned non-2xx status code: "
    return f'{first}{status} Reason: {body}\n\nDebug source:\nGeneric {{ body: Some("{body}") }}'


def test_every_class_of_botocore_and_obstore_is_mapped_by_name() -> None:
    classes = _all_classes()

    assert len(classes) > 100
    assert sorted(set(classes) - set(s3.BY_CLASS)) == [], "unmapped"
    left_over = {name for name in set(s3.BY_CLASS) - set(classes) if not name.startswith("builtins.")}
    assert left_over <= {"obstore.NotFoundError"}, "no such class (any more)"


@pytest.mark.parametrize("name", sorted(_all_classes()))
def test_an_error_of_each_class_is_the_one_in_the_table(name: str) -> None:
    vendor = _all_classes()[name]
    raised = _answer("", 0) if issubclass(vendor, ClientError) else vendor.__new__(vendor)

    error = from_vendor(raised, "k")

    assert type(error) is s3.BY_CLASS[name]
    assert type(error) is _KIND_OF_CLASS.get(name, type(error))
    assert error.key == "k"


def test_every_class_that_can_be_raised_at_us_is_caught() -> None:
    stray = {
        "botocore.UndefinedModelAttributeError",
        "botocore.MissingServiceIdError",
        "botocore.NoInitialResponseError",
    }
    caught = {name for name, one in _all_classes().items() if issubclass(one, s3.VENDOR_ERRORS)}

    assert set(_all_classes()) - caught == stray  # of other services' models, and of event streams


def test_every_code_that_botocore_knows_or_a_server_documents_is_mapped_by_name() -> None:
    codes = _modelled_codes() | set(_DOCUMENTED.split()) | set(_OTHER_SERVERS.split())

    assert len(codes) > 150
    assert sorted(codes - set(s3.BY_CODE)) == [], "unmapped"


@pytest.mark.parametrize(("kind", "codes"), _KIND_OF_CODE.items(), ids=lambda it: getattr(it, "kind", ""))
def test_the_codes_that_matter_are_what_they_say(kind: type[ours.ProviderError], codes: str) -> None:
    for code in codes.split():
        for status in (0, 400, 404, 503):  # the code decides
            error = from_vendor(_answer(code, status))
            assert (code, type(error), error.vendor_code) == (code, kind, code)
        through_obstore = from_vendor(obstore.exceptions.GenericError(_obstore_text(400, f"<Code>{code}</Code>")))
        assert (type(through_obstore), through_obstore.vendor_code) == (kind, code)


def test_what_says_too_much_too_slow_or_broken_is_retryable_and_nothing_else() -> None:
    retryable = {code for code, kind in s3.BY_CODE.items() if kind.retryable}

    kinds = {s3.BY_CODE[code] for code in retryable}
    assert kinds == {ours.Throttled, ours.StoreUnavailable, ours.StoreTimedOut}
    assert set(standard.ThrottledRetryableChecker._THROTTLED_ERROR_CODES) <= retryable
    assert set(standard.TransientRetryableChecker._TRANSIENT_ERROR_CODES) <= retryable


def test_no_name_stands_in_two_groups() -> None:
    with pytest.raises(ValueError, match="twice"):
        s3._table({ours.Throttled: "SlowDown", ours.StoreFull: "Full SlowDown"})


@pytest.mark.parametrize("status", range(300, 600))
def test_every_status_is_mapped(status: int) -> None:
    expected = _KIND_OF_STATUS.get(status, s3.BY_STATUS[status])
    by_boto = from_vendor(_answer(str(status), status))
    by_obstore = from_vendor(obstore.exceptions.GenericError(_obstore_text(status, "")))

    assert type(by_boto) is type(by_obstore) is expected
    assert by_boto.vendor_code == by_obstore.vendor_code == str(status)
    assert by_boto.retryable == (
        status in (407, 408, 425, 429, 499) or (status >= 500 and status not in (501, 505, 507))
    )


def test_a_redirect_names_the_endpoint_as_the_cause_and_is_not_repeated() -> None:
    text = "Generic S3 error: Error performing GET http://h/b/o in 1ms - Received redirect without LOCATION, this ..."
    for raised in (_answer("PermanentRedirect", 301), _answer("301", 301), obstore.exceptions.GenericError(text)):
        error = from_vendor(raised)
        assert (type(error), error.retryable) == (ours.BucketMissing, False)
        assert "endpoint" in error.message


def test_a_clock_that_is_off_is_told_as_such() -> None:
    error = from_vendor(_answer("RequestTimeTooSkewed", 403))

    assert not isinstance(error, ours.BadCredential)
    assert (error.vendor_code, "clock" in error.message) == ("RequestTimeTooSkewed", True)


def test_a_key_that_reads_like_an_answer_is_none() -> None:
    for key in ("a/<Code>NoSuchKey</Code>", "status code: 404", "cap exceeded"):
        raised = obstore.exceptions.PermissionDeniedError(f"Object at {key}: " + _obstore_text(403, ""))
        assert type(from_vendor(raised, key)) is ours.AccessDenied
    assert (
        type(from_vendor(obstore.exceptions.GenericError(_obstore_text(404, "", "404")), "404")) is ours.ObjectNotFound
    )


# --- Retry-After ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("0", 0.0),
        (" 7 ", 7.0),
        ("1.5", 1.5),
        ("3600", 3600.0),
        ("99999", 3600.0),
        ("9" * 400, None),
        ("-5", None),
        ("", None),
        ("soon", None),
        ("²", None),
        ("nan", None),
        ("inf", None),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
        ("Wed, 21 Oct 2099 07:28:00 GMT", 3600.0),
        ("Wed, 99 Oct 2099 07:28:00 GMT", None),
    ],
)
def test_retry_after(header: str | None, seconds: float | None) -> None:
    assert retry_after(header) == seconds


def test_retry_after_as_a_date_is_the_time_until_then() -> None:
    moment = datetime.now(UTC) + timedelta(seconds=90)

    for header in (format_datetime(moment, usegmt=True), format_datetime(moment.replace(tzinfo=None))):
        wait = retry_after(header)
        assert wait is not None
        assert 60 < wait <= 90


def test_retry_after_comes_from_botocores_answer() -> None:
    assert from_vendor(_answer("SlowDown", 503, {"retry-after": "12"})).retry_after == 12
    assert from_vendor(_answer("SlowDown", 503, {"retry-after": "-12"})).retry_after is None
    assert from_vendor(_answer("SlowDown", 503)).retry_after is None


class _Busy(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b"<Error><Code>SlowDown</Code></Error>"
        self.send_response(503)
        self.send_header("Retry-After", "4242")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None: ...


def test_obstore_does_not_tell_the_header() -> None:
    """So there is nothing to take. When this turns red, obstore has learned it: read it in `from_vendor`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Busy)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    store = S3Store(
        "b",
        endpoint=f"http://127.0.0.1:{server.server_port}",
        access_key_id="id",
        secret_access_key="key",
        region="r",
        client_options={"allow_http": True},
        retry_config={"max_retries": 0},
    )
    try:
        with pytest.raises(obstore.exceptions.BaseError) as caught:
            obstore.get(store, "o")
    finally:
        server.shutdown()
        server.server_close()

    assert "4242" not in f"{caught.value} {vars(caught.value)}"
    error = from_vendor(caught.value)
    assert (type(error), error.vendor_code, error.retry_after) == (ours.Throttled, "SlowDown", None)


# --- no secret goes on ----------------------------------------------------------------------------------------------

_CANARY = "c4n4ryWJalrXUtnFEMI7K7MDENG"
_URL = f"https://h.example/b/o?X-Amz-Credential=AKIA{_CANARY}&X-Amz-Signature={_CANARY}"
_AUTHORIZATION = f"Authorization: AWS4-HMAC-SHA256 Credential=AKIA/{_CANARY}, Signature={_CANARY}"
_TEXT = f"{_URL} {_AUTHORIZATION} secret={_CANARY}"
_SECRETS = (_CANARY, "X-Amz-", "AWS4-HMAC", "h.example")


def _telling() -> Iterator[BaseException]:
    """Vendors' errors, each with a secret wherever it can hold one."""
    for vendor in _all_classes().values():
        if not issubclass(vendor, ClientError):
            raised = vendor.__new__(vendor)
            raised.args = (_TEXT,)
            raised.kwargs = {"endpoint_url": _URL, "error": _TEXT}  # type: ignore[attr-defined]
            yield raised
    for code in ("SlowDown", "AccessDenied", "NobodyKnowsThis", _CANARY, _URL, _TEXT, "", "403"):
        for status in (0, 301, 403, 404, 503):
            yield _answer(code, status, {"retry-after": _TEXT, "location": _URL}, _TEXT)
            body = f"<Error><Code>{code}</Code><Message>{_TEXT}</Message></Error>"
            yield obstore.exceptions.GenericError(_obstore_text(status, body))
            yield obstore.exceptions.PermissionDeniedError(f"{_TEXT} Cap exceeded <Code>{code}</Code>")
    yield FileNotFoundError(2, _TEXT, _URL)
    yield TimeoutError(_TEXT)


def _translate(raised: BaseException) -> NoReturn:
    try:
        raise raised
    except Exception as error:
        raise from_vendor(error, "reports/may.pdf") from None


def _printed(raised: BaseException) -> tuple[ours.ProviderError, list[str]]:
    """The error that a provider raises of this one, and all that a log could show of it."""
    with pytest.raises(ours.ProviderError) as caught:
        _translate(raised)
    error = caught.value
    assert error.__cause__ is None
    return error, [str(error), repr(error), repr(vars(error)), "".join(traceback.format_exception(error))]


def test_no_vendors_text_is_in_what_a_log_would_print() -> None:
    every = list(_telling())

    assert len(every) > 200
    for raised in every:
        error, shown = _printed(raised)
        assert not [(raised, text) for text in shown for secret in _SECRETS if secret in text]
        assert len(error.vendor_code or "") <= 64


def test_a_code_that_nobody_knows_goes_on_if_it_is_words() -> None:
    assert from_vendor(_answer("NobodyKnowsThis", 403)).vendor_code == "NobodyKnowsThis"
    assert from_vendor(_answer("KMS.NewOne", 503)).vendor_code == "KMS.NewOne"
    for strange in (_CANARY, "a b", "x" * 30, "A" * 60, "https://h", "Digits1"):
        assert from_vendor(_answer(strange, 403)).vendor_code == "403"
