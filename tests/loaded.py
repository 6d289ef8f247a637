"""All that our program loads, sooner or later: for the process that `tests.programs` forks from, and no other."""

from __future__ import annotations

import alembic.command
import b2sdk.v3
import boto3.session
import botocore.crt.auth
import obstore.store
import sqlalchemy.dialects.postgresql
import tests.programs

import simples3dms.__main__
import simples3dms.cli.hosting
import simples3dms.cli.serving
import simples3dms.providers.kinds.b2.provider
import simples3dms.providers.kinds.s3.provider
import simples3dms.revisions.upgrade
from simples3dms.providers.kinds.s3.config import service_models

__all__ = ["alembic", "b2sdk", "boto3", "botocore", "obstore", "simples3dms", "sqlalchemy", "tests"]

service_models().load_service_model("s3", "service-2")
service_models().load_service_model("s3", "endpoint-rule-set-1")
service_models().load_data("endpoints")
service_models().load_data("partitions")
