"""What obstore and botocore raise, as our errors: tables by S3 code, by HTTP status and by exception class.

Their messages hold full URIs and server text, so none of it goes on: the message is ours, the code is the store's, and
only where it reads as a code. The tables name everything there is; `tests/providers/test_vendor_errors_s3.py`
enumerates it and turns red when a library learns a new error. Names rather than classes, so that a class which a
library drops (obstore has deprecated one) does not stop us from starting.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

import obstore.exceptions as obstore_errors
from botocore import exceptions as boto
from botocore.parsers import ResponseParserError

from simples3dms.providers.errors import (
    AccessDenied,
    BadCredential,
    BucketMissing,
    CapExceeded,
    ClockSkew,
    IntegrityError,
    ObjectNotFound,
    ObjectTooLarge,
    PreconditionFailed,
    ProviderError,
    StoreFull,
    StoreTimedOut,
    StoreUnavailable,
    Throttled,
    Unsupported,
)

_MESSAGES: Final[dict[type[ProviderError], str]] = {
    ObjectNotFound: "no such object",
    AccessDenied: "the store refuses this to the credential",
    ClockSkew: "the clocks of this machine and of the store differ too much",
    BadCredential: "the store does not accept the credential",
    BucketMissing: "the bucket is not there",
    Throttled: "the store asks to slow down",
    StoreUnavailable: "the store does not answer, or failed",
    StoreTimedOut: "the store did not answer in time",
    IntegrityError: "the store received other bytes than were sent",
    PreconditionFailed: "the object is in another state than expected",
    CapExceeded: "a cap of the store's account is reached",
    StoreFull: "the store has no space left",
    ObjectTooLarge: "the object is larger than the store takes",
    Unsupported: "the store can't do this",
    ProviderError: "the store refused the request",
}

_ELSEWHERE: Final = "the bucket is not at this endpoint or not in this region"
#: Where the code says more than its kind.
_MESSAGES_BY_CODE: Final[dict[str, str]] = {
    **dict.fromkeys(
        (
            "PermanentRedirect",
            "TemporaryRedirect",
            "Redirect",
            "IllegalLocationConstraintException",
            "InvalidLocationConstraint",
            "IncorrectEndpoint",
        ),
        _ELSEWHERE,
    ),
    "AuthorizationHeaderMalformed": "the store does not accept the signature: the region may be another",
    "InvalidObjectState": "the object is archived: it must be restored before it can be read",
    "InvalidRange": "the range is not in the object",
    "EntityTooSmall": "a part is smaller than the store takes",
}


def _table(groups: dict[type[ProviderError], str]) -> dict[str, type[ProviderError]]:
    pairs = [(name, kind) for kind, names in groups.items() for name in names.split()]
    if len(table := dict(pairs)) < len(pairs):
        raise ValueError("a name is there twice")
    return table


#: AWS's list (API reference, "Error responses"), and what MinIO, Ceph, SeaweedFS, Backblaze, R2 and Wasabi add to it.
BY_CODE: Final[dict[str, type[ProviderError]]] = _table(
    {
        ObjectNotFound: "NoSuchKey NoSuchVersion NoSuchUpload NoSuchObject",
        # A redirect too: what it says is that the bucket is not here, whatever its objects are; no retry brings it.
        BucketMissing: """
            NoSuchBucket NoSuchAccessPoint InvalidBucketName PermanentRedirect TemporaryRedirect Redirect
            IllegalLocationConstraintException InvalidLocationConstraint IncorrectEndpoint""",
        BadCredential: """
            InvalidAccessKeyId SignatureDoesNotMatch ExpiredToken ExpiredTokenException InvalidToken InvalidTokenId
            TokenRefreshRequired InvalidSecurity NotSignedUp UnrecognizedClientException AuthorizationHeaderMalformed
            AuthorizationQueryParametersError MissingSecurityHeader MissingSecurityElement MissingAuthenticationToken
            CredentialsNotSupported RequestExpired Unauthorized InvalidClientTokenId ExpiredTradeInTokenException
            IDPCommunicationError IDPRejectedClaim InvalidAuthorizationMessageException InvalidIdentityToken
            JWTPayloadSizeExceededException OutboundWebIdentityFederationDisabledException RegionDisabledException
            SessionDurationEscalationException MalformedPolicyDocument PackedPolicyTooLarge InvalidSignature
            TokenCodeInvalidError""",
        # No reason to doubt the credential.
        ClockSkew: "RequestTimeTooSkewed",
        AccessDenied: """
            AccessDenied AccessDeniedException AllAccessDisabled AccountProblem InvalidObjectState
            ObjectNotInActiveTierError InvalidPayer UserSuspended UserProjectMissing UnauthorizedAccess
            UnauthorizedAccessError ObjectLocked KMS.AccessDeniedException KMS.DisabledException
            KMS.InvalidStateException KMS.KMSInvalidStateException KMS.InvalidKeyUsageException
            KMS.NotFoundException""",
        Throttled: """
            SlowDown SlowDownRead SlowDownWrite TooManyRequests TooManyRequestsException Throttling ThrottlingException
            ThrottledException RequestThrottled RequestThrottledException EC2ThrottledException RequestLimitExceeded
            RequestRateLimitExceeded RateLimitExceeded BandwidthLimitExceeded LimitExceededException
            ProvisionedThroughputExceededException TransactionInProgressException PriorRequestNotComplete
            ErrTooManyRequest ErrRequestBytesExceed KMS.ThrottlingException KMS.LimitExceededException""",
        StoreUnavailable: """
            InternalError InternalFailure InternalServerError ServiceUnavailable ServiceUnavailableException
            OperationAborted BadGateway Busy ClientDisconnected ConnectionClosedByRequester ResponseInterrupted
            KMS.KeyUnavailableException
            KMS.KMSInternalException KMS.InternalException XMinioServerNotInitialized XMinioReadQuorum
            XMinioWriteQuorum XMinioBackendDown XMinioMaintenance""",
        StoreTimedOut: """
            RequestTimeout RequestTimeoutException GatewayTimeout KMS.DependencyTimeoutException""",
        # `InvalidPart`: what is put together is not what was sent, part for part.
        IntegrityError: """
            BadDigest InvalidDigest XAmzContentSHA256Mismatch XAmzContentChecksumMismatch ContentSHA256Mismatch
            IncompleteBody InvalidPart InvalidPartOrder XMinioObjectTampered""",
        PreconditionFailed: """
            PreconditionFailed ConditionalRequestConflict NotModified BucketAlreadyExists BucketAlreadyOwnedByYou
            BucketNotEmpty InvalidBucketState RestoreAlreadyInProgress ObjectAlreadyInActiveTierError
            IdempotencyParameterMismatch InvalidWriteOffset""",
        CapExceeded: "CapExceeded TooManyBuckets",
        StoreFull: """
            InsufficientStorage InsufficientCapacity XMinioStorageFull QuotaExceeded StorageQuotaExceeded
            BucketQuotaExceeded XMinioAdminBucketQuotaExceeded""",
        ObjectTooLarge: "EntityTooLarge MaxMessageLengthExceeded",
        Unsupported: """
            NotImplemented MethodNotAllowed KeyTooLongError KeyTooLong UnsupportedOperation UnsupportedSignature
            UnsupportedArgument UnsupportedMediaType InvalidStorageClass InvalidRange EntityTooSmall TooManyParts
            InvalidURI InvalidObjectName AccessControlListNotSupported ServerSideEncryptionNotSupported
            FeatureNotSupported NoSuchFeature InvalidEncryptionAlgorithmError XMinioInvalidObjectName
            XMinioParentIsObject XMinioObjectExistsAsDirectory ExistingObjectIsDirectory ExistingObjectIsFile""",
        # Our request is wrong, or the bucket's settings are: neither the object nor a repetition helps. A setting that
        # is missing comes with status 404, and is no missing object.
        ProviderError: """
            InvalidRequest InvalidArgument MalformedXML MalformedACLError MalformedPOSTRequest MalformedPolicy
            MalformedHeader MissingContentLength MissingRequestBodyError MissingAttachment MissingContentMD5
            MissingParameter MissingHeader MissingRequiredParameter MetadataTooLarge IncorrectNumberOfFilesInPostRequest
            InlineDataTooLarge InvalidACL InvalidAddressingHeader InvalidHTTPStatusCode InvalidHeader InvalidName
            InvalidPolicyDocument InvalidPrefix InvalidSOAPRequest InvalidSessionException InvalidTag InvalidTagError
            InvalidTargetBucketForLogging InvalidVersionId InvalidCopySource InvalidCopyDest InvalidRegion
            InvalidChunkSizeError InvalidEncryptionKey InvalidQueryParameter InvalidBucketOwnerAWSAccountID
            AmbiguousGrantByEmailAddress UnresolvableGrantByEmailAddress BadRequest BucketHasAccessPointsAttached
            CrossLocationLoggingProhibited DeviceNotActiveError EndpointNotFound ExpressionTooLong
            IllegalVersioningConfigurationException InvalidAccessPoint InvalidAccessPointAliasError
            MaxPostPreDataLengthExceededError MissingRequestBody OwnershipControlsNotFoundError
            NoSuchBucketPolicy NoSuchCORSConfiguration NoSuchConfiguration NoSuchLifecycleConfiguration NoSuchTagSet
            NoSuchTagSetError NoSuchWebsiteConfiguration NoSuchObjectLockConfiguration NoSuchAnnotation
            NoSuchObjectLegalHold NoSuchObjectRetention
            NoSuchPublicAccessBlockConfiguration NoSuchMultiRegionAccessPoint NoSuchAsyncRequest NoLoggingStatusForKey
            NoSuchAccessPointPolicy NoSuchBucketEncryptionConfiguration ObjectLockConfigurationNotFoundError
            ReplicationConfigurationNotFoundError ServerSideEncryptionConfigurationNotFoundError
            RequestIsNotMultiPartContent RequestTorrentOfBucketError RequestHeaderSectionTooLarge UnexpectedContent
            UserKeyMustBeSpecified TooManyFields AnnotationLimitExceeded AnnotationNameTooLong EncryptionTypeMismatch
            InvalidAnnotationName NotDeviceOwnerError OverlappingFilter XMinioRequestBodyParse XMinioMalformedJSON
            XMinioInvalidResourceName AccessPointAlreadyOwnedByYou ClientTokenConflict
            InvalidBucketAclWithObjectOwnership InvalidHostHeader InvalidHttpMethod NoSuchResource TagPolicyException
            TooManyAccessPoints TooManyMultiRegionAccessPoints TooManyMultiRegionAccessPointregionsError""",
    }
)

#: Each of 300 to 599. 304 is a condition; the other redirects lead to another endpoint.
BY_STATUS: Final[dict[int, type[ProviderError]]] = {
    **dict.fromkeys(range(300, 400), BucketMissing),
    **dict.fromkeys(range(400, 500), ProviderError),
    **dict.fromkeys(range(500, 600), StoreUnavailable),
    304: PreconditionFailed,
    401: BadCredential,
    402: CapExceeded,
    403: AccessDenied,
    404: ObjectNotFound,
    405: Unsupported,
    407: StoreUnavailable,  # a proxy before the store
    408: StoreTimedOut,
    409: PreconditionFailed,
    412: PreconditionFailed,
    413: ObjectTooLarge,
    414: Unsupported,  # the key is too long
    415: Unsupported,
    416: Unsupported,
    425: StoreUnavailable,
    429: Throttled,
    451: AccessDenied,
    499: StoreUnavailable,  # nginx, MinIO: the connection went away
    501: Unsupported,
    504: StoreTimedOut,
    505: Unsupported,
    507: StoreFull,
    509: Throttled,  # bandwidth
    522: StoreTimedOut,  # Cloudflare
    524: StoreTimedOut,
    598: StoreTimedOut,
    599: StoreTimedOut,
}

#: By library and class, the nearest ancestor first; used when neither a code nor a status is known.
BY_CLASS: Final[dict[str, type[ProviderError]]] = _table(
    {
        # `FileNotFoundError` is what obstore really raises for a missing object.
        ObjectNotFound: "obstore.NotFoundError builtins.FileNotFoundError",
        AccessDenied: "obstore.PermissionDeniedError",
        BadCredential: """
            obstore.UnauthenticatedError botocore.NoCredentialsError botocore.PartialCredentialsError
            botocore.CredentialRetrievalError botocore.UnknownCredentialError botocore.NoAuthTokenError
            botocore.TokenRetrievalError botocore.UnknownTokenProviderError botocore.ProfileNotFound
            botocore.RefreshWithMFAUnsupportedError botocore.MetadataRetrievalError botocore.SSOError
            botocore.SSOTokenLoadError botocore.UnauthorizedSSOTokenError botocore.LoginError
            botocore.LoginRefreshRequired botocore.LoginInsufficientPermissions botocore.LoginTokenLoadError
            botocore.LoginAuthorizationCodeError""",
        PreconditionFailed: "obstore.PreconditionError obstore.NotModifiedError obstore.AlreadyExistsError",
        Unsupported: """
            obstore.NotSupportedError obstore.InvalidPathError botocore.ParamValidationError
            botocore.UnsupportedSignatureVersionError botocore.UnknownSignatureVersionError""",
        IntegrityError: "botocore.ChecksumError botocore.FlexibleChecksumError",
        StoreTimedOut: "botocore.ConnectTimeoutError botocore.ReadTimeoutError builtins.TimeoutError",
        Throttled: "botocore.CapacityNotAvailableError",
        StoreUnavailable: """
            obstore.BaseError obstore.GenericError obstore.JoinError botocore.HTTPClientError botocore.ConnectionError
            botocore.EndpointConnectionError botocore.SSLError botocore.ConnectionClosedError
            botocore.ProxyConnectionError botocore.ResponseStreamingError botocore.IncompleteReadError
            botocore.ResponseParserError botocore.NoInitialResponseError builtins.OSError""",
        # Our settings or our calls are wrong. `ClientError` has a table of its own: its codes.
        ProviderError: """
            obstore.UnknownConfigurationKeyError botocore.ClientError botocore.EventStreamError botocore.BotoCoreError
            botocore.DataNotFoundError botocore.UnknownServiceError botocore.UnknownRegionError
            botocore.ApiVersionNotFoundError botocore.InvalidIMDSEndpointError botocore.InvalidIMDSEndpointModeError
            botocore.ServiceNotInRegionError botocore.BaseEndpointResolverError botocore.NoRegionError
            botocore.EndpointVariantError botocore.UnknownEndpointError botocore.UnknownFIPSEndpointError
            botocore.ConfigParseError botocore.ConfigNotFound botocore.MissingParametersError botocore.ValidationError
            botocore.UnknownKeyError botocore.RangeError botocore.UnknownParameterError botocore.InvalidRegionError
            botocore.AliasConflictParameterError botocore.UnknownServiceStyle botocore.PaginationError
            botocore.OperationNotPageableError botocore.UnseekableStreamError botocore.WaiterError
            botocore.InvalidExpressionError botocore.WaiterConfigError botocore.UnknownClientMethodError
            botocore.InvalidDNSNameError botocore.InvalidS3AddressingStyleError botocore.UnsupportedS3ArnError
            botocore.UnsupportedS3ControlArnError botocore.InvalidHostLabelError
            botocore.UnsupportedOutpostResourceError botocore.UnsupportedS3ConfigurationError
            botocore.UnsupportedS3AccesspointConfigurationError botocore.InvalidEndpointDiscoveryConfigurationError
            botocore.UnsupportedS3ControlConfigurationError botocore.InvalidRetryConfigurationError
            botocore.InvalidMaxRetryAttemptsError botocore.InvalidRetryModeError
            botocore.InvalidS3UsEast1RegionalEndpointConfigError botocore.InvalidSTSRegionalEndpointsConfigError
            botocore.StubResponseError botocore.StubAssertionError botocore.UnStubbedResponseError
            botocore.InvalidConfigError botocore.InfiniteLoopConfigError botocore.MD5UnavailableError
            botocore.MissingDependencyException botocore.UndefinedModelAttributeError botocore.MissingServiceIdError
            botocore.InvalidProxiesConfigError botocore.InvalidDefaultsMode botocore.AwsChunkedWrapperError
            botocore.InvalidEndpointConfigurationError botocore.EndpointProviderError botocore.EndpointResolutionError
            botocore.UnknownEndpointResolutionBuiltInName botocore.InvalidChecksumConfigError
            botocore.UnsupportedServiceProtocolsError""",
    }
)

_CODE: Final = re.compile(r"<Code>\s*([A-Za-z0-9._-]{1,64})\s*</Code>")
_STATUS: Final = re.compile(r"status code: (\d{3})")
_REDIRECTED: Final = "Received redirect without LOCATION"  # what obstore says of a 3xx, instead of its status
_TIMED_OUT: Final = re.compile(r"kind: Timeout|TimedOut|operation timed out")
_CAP: Final = re.compile(r"\bcap exceeded\b", re.IGNORECASE)
_LIKE_AN_ANSWER: Final = re.compile(f"<Code>|status code|{_REDIRECTED}|{_TIMED_OUT.pattern}|(?i:cap exceeded)")
#: A code we don't know goes on if it is words, as codes are: a store that echoes a token there is not repeated.
_READS_AS_CODE: Final = re.compile(r"[A-Z][A-Za-z]*(?:\.[A-Z][A-Za-z]*)*")
_CODE_CHARACTERS: Final = 48
_SECONDS: Final = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,6})?")
_LONGEST_WAIT_SECONDS: Final = 3600.0
_LOOKED_AT: Final = 6000

#: Every class that a vendor's library may raise at us.
VENDOR_ERRORS: Final = (obstore_errors.BaseError, boto.BotoCoreError, boto.ClientError, ResponseParserError, OSError)


def from_vendor(error: BaseException, key: str | None = None) -> ProviderError:
    """Our error for theirs."""
    if isinstance(error, boto.ClientError):
        return _from_response(error.response, key)
    text = str(error)[:_LOOKED_AT]
    if key and _LIKE_AN_ANSWER.search(key):
        text = text.replace(key, "")  # obstore's text quotes it
    code, status = _CODE.search(text), _STATUS.search(text)
    if code or status:
        return _make(code[1] if code else None, int(status[1]) if status else 0, text, key)
    if _REDIRECTED in text:
        return _make("Redirect", 0, text, key)
    kind = _nearest(type(error))
    if kind is StoreUnavailable and _TIMED_OUT.search(text):
        kind = StoreTimedOut
    return kind(_MESSAGES[kind], vendor_code=type(error).__name__, key=key)


def _from_response(response: Any, key: str | None) -> ProviderError:
    problem = response.get("Error", {})
    metadata = response.get("ResponseMetadata", {})
    code, status = str(problem.get("Code", "")), int(metadata.get("HTTPStatusCode", 0) or 0)
    made = _make(None if code.isdigit() else code, status or _number(code), str(problem.get("Message", "")), key)
    made.retry_after = retry_after(metadata.get("HTTPHeaders", {}).get("retry-after"))
    return made


def _make(code: str | None, status: int, text: str, key: str | None) -> ProviderError:
    code = _repeatable(code)
    kind = BY_CODE.get(code or "") or BY_STATUS.get(status, ProviderError)
    message = _MESSAGES_BY_CODE.get(code or "")
    if message is None:
        message = _ELSEWHERE if kind is BucketMissing and 300 <= status < 400 else _MESSAGES[kind]
    if kind is AccessDenied and _CAP.search(text):  # how B2's S3 door says it
        kind, message = CapExceeded, _MESSAGES[CapExceeded]
    return kind(message, vendor_code=code or (str(status) if status else None), key=key)


def _repeatable(code: str | None) -> str | None:
    """The code, if it is one."""
    if not code or code in BY_CODE:
        return code
    return code if len(code) <= _CODE_CHARACTERS and _READS_AS_CODE.fullmatch(code) else None


def _nearest(raised: type[BaseException]) -> type[ProviderError]:
    named = (f"{base.__module__.partition('.')[0]}.{base.__name__}" for base in raised.__mro__)
    return next((BY_CLASS[name] for name in named if name in BY_CLASS), ProviderError)


def _number(text: str) -> int:
    return int(text) if text.isdecimal() and len(text) <= 3 else 0


def retry_after(header: str | None) -> float | None:
    """Seconds from now, of either form of the header (RFC 9110, 10.2.3), 0 to 3600; None when absent or unreadable."""
    if header is None:
        return None
    if _SECONDS.fullmatch(text := str(header).strip()):
        return min(float(text), _LONGEST_WAIT_SECONDS)
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return min(max((moment - datetime.now(UTC)).total_seconds(), 0.0), _LONGEST_WAIT_SECONDS)


def says_nothing_of_the_bucket(error: ProviderError) -> bool:
    """Whether this is an answer without a body (HEAD): object or bucket missing, key wrong or right missing."""
    return type(error) in (ObjectNotFound, AccessDenied) and (error.vendor_code or "").isdigit()
