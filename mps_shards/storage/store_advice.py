"""Advice for stores that refuse access or do not answer: credentials, region, bucket, endpoint."""

import os
import re
from collections.abc import Mapping

from mps_shards.storage.urls import scheme_of, without_secrets

__all__ = ["advice_for"]

_S3 = ("s3", "s3a")
_GOOGLE = ("gs",)
_AZURE = ("abfs", "abfss", "adl", "az", "azure")
_METADATA = "169.254.169.254"  # address from which cloud machines get credentials

_CREDENTIALS = {
    **dict.fromkeys(
        _S3,
        "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_SESSION_TOKEN if there is one), or "
        "AWS_SKIP_SIGNATURE=true for a public bucket; ~/.aws is not read",
    ),
    **dict.fromkeys(_GOOGLE, "set GOOGLE_APPLICATION_CREDENTIALS to the file of a service account"),
    **dict.fromkeys(_AZURE, "set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY"),
}


def advice_for(url: str, error: str, environment: Mapping[str, str] = os.environ) -> str | None:
    """Return what is missing or wrong, judged by the error of a store or its client; None if that is not known.

    Args:
        error: The client's complete message.
    """
    scheme = scheme_of(url) or ""
    if _METADATA in error and scheme in _CREDENTIALS:
        return f"no credentials were found: {_CREDENTIALS[scheme]}"
    if "must be specified" in error and scheme in _AZURE:
        return "the storage account is not known: set AZURE_STORAGE_ACCOUNT_NAME"
    if re.search("InvalidAccessKeyId|SignatureDoesNotMatch|InvalidToken|ExpiredToken|AuthenticationFailed", error):
        return f"the credentials were refused: {_CREDENTIALS.get(scheme, 'check them')}"
    if scheme in _S3 and re.search(
        "PermanentRedirect|AuthorizationHeaderMalformed|IllegalLocation|status code: 301", error
    ):
        region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION")
        return f"the bucket is in another region than {region or 'us-east-1'}: set AWS_REGION"
    if re.search("NoSuchBucket|ContainerNotFound", error):
        more = ", AWS_REGION and AWS_ENDPOINT_URL" if scheme in _S3 else ""
        return f"there is no such bucket: check its name{more}"
    if scheme in _S3 and re.search("dns error|Connection refused|TimedOut|Timeout|no answer in", error):
        endpoint = environment.get("AWS_ENDPOINT_URL") or environment.get("AWS_ENDPOINT")
        if endpoint:
            return f"the endpoint {without_secrets(endpoint)} does not answer: check AWS_ENDPOINT_URL"
        return "Amazon S3 does not answer: check the network, or set AWS_ENDPOINT_URL for another store"
    return None
