"""The database roles: who may see which rows. None of them logs in, owns anything or bypasses row-level security."""

from __future__ import annotations

from typing import Final

#: Sees one tenant's rows: the one in the setting `app.tenant_id` of the transaction.
TENANT_ROLE: Final = "simples3dms_tenant"
#: Sees all rows that the platform needs, by policies of its own. For work that spans tenants.
PLATFORM_ROLE: Final = "simples3dms_platform"
#: Owns no data: may only read and write the job queue's tables.
QUEUE_ROLE: Final = "simples3dms_queue"
#: Numbers and chains one tenant's audit events, and cuts the oldest where a retention says so. Nobody else can.
SEALER_ROLE: Final = "simples3dms_sealer"
#: What the application logs in as. May become each of those above and has no right of its own.
LOGIN_ROLE: Final = "simples3dms_app"

#: Owns the schema and makes the group roles. Used by revisions only, never at run time.
OWNER_ROLE: Final = "simples3dms_owner"

GROUP_ROLES: Final = (TENANT_ROLE, PLATFORM_ROLE, QUEUE_ROLE, SEALER_ROLE)
