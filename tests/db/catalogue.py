"""What the database's own catalogue says of isolation: each check returns what is wrong, one sentence a finding.

The exceptions are listed here and nowhere else; a new table that needs one has to be argued for in this file.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg

from simples3dms.db.roles import GROUP_ROLES, LOGIN_ROLE, PLATFORM_ROLE, QUEUE_ROLE, SEALER_ROLE, TENANT_ROLE

#: Tables that no tenant owns and that carry no data of one. The queue's jobs hold ids only.
UNPROTECTED = {
    "alembic_version",
    "procrastinate_jobs",
    "procrastinate_events",
    "procrastinate_workers",
    "procrastinate_periodic_defers",
}
#: Tables without a tenant's id of which a tenant may read some rows: itself, and the stores granted to it. Of those
#: that it brought it may change what `COLUMN_RIGHTS` says; tests/stores/test_brought.py tries what these let through.
TENANT_VIEWS = {("tenants", "own_row"), ("stores", "granted_rows"), ("stores", "own_rows")}
TENANT_POLICY = "(tenant_id = (NULLIF(current_setting('app.tenant_id'::text, true), ''::text))::uuid)"
#: Two grants may not share a prefix of a store, whoever's they are. Only operators grant, so nobody can ask by trying.
UNIQUE_ACROSS_TENANTS = {("store_grants", ("store_id", "prefix"))}
#: What a tenant's row may refer to outside the tenant: tables of the platform, by their own key.
PLATFORM_TARGETS = {"tenants", "users", "stores"}
#: The tenant role's rights on whole tables. What is not here, it has not.
TENANT_RIGHTS = {
    "tenants": "SELECT",
    "stores": "SELECT",
    "members": "SELECT",
    "store_grants": "SELECT",
    "placements": "SELECT INSERT UPDATE",
    "placement_versions": "SELECT INSERT",
    "blobs": "SELECT INSERT UPDATE DELETE",
    "replicas": "SELECT INSERT UPDATE DELETE",
    "documents": "SELECT INSERT UPDATE",
    "versions": "SELECT INSERT DELETE",
    "uploads": "SELECT INSERT UPDATE DELETE",
    "transfers": "SELECT INSERT UPDATE DELETE",
    "migrations": "SELECT INSERT UPDATE",
    "migration_chunks": "SELECT INSERT UPDATE",
    "notices": "SELECT INSERT",
    "notice_letters": "SELECT",
    "drain_tenants": "SELECT",
    "audit_events": "SELECT",
    "audit_heads": "SELECT",
    "audit_checkpoints": "SELECT",
    "audit_cuts": "SELECT",
    "audit_copies": "SELECT INSERT UPDATE",
    "holds": "SELECT INSERT UPDATE",
    "cache_entries": "SELECT UPDATE",
    "object_locks": "SELECT INSERT UPDATE",
    "lock_surveys": "SELECT UPDATE",
    "part_uploads": "SELECT INSERT DELETE",
    "sent_parts": "SELECT INSERT UPDATE",
    "placement_surveys": "SELECT INSERT UPDATE",
    "tenant_settings": "SELECT",
    "usage_shards": "SELECT INSERT UPDATE",
    "catalogue_counts": "SELECT",
    "catalogue_deltas": "SELECT INSERT",
    "transfer_counts": "SELECT",
    "transfer_deltas": "SELECT INSERT",
    "scrubs": "SELECT INSERT UPDATE",
    "reconciles": "SELECT INSERT UPDATE",
    "reconcile_findings": "SELECT INSERT UPDATE",
    "takeouts": "SELECT INSERT",
    "tenant_deletions": "SELECT",
    "invitations": "SELECT",
    "alembic_version": "SELECT",
}
#: What seals and cuts one tenant's audit; nothing else is open to it.
SEALER_RIGHTS = {
    "audit_events": "SELECT DELETE",
    "audit_heads": "SELECT INSERT UPDATE",
    "audit_checkpoints": "SELECT INSERT",
    "audit_cuts": "SELECT INSERT",
}
#: Whoever records an act gives these; time, number and hash are not theirs to say.
_GIVEN = (
    "tenant_id",
    "id",
    "principal_id",
    "principal_name",
    "action",
    "target_type",
    "target_id",
    "outcome",
    "details",
)
COLUMN_RIGHTS = (
    {("store_grants", "loss_count", TENANT_ROLE)}
    | {("stores", column, TENANT_ROLE) for column in ("tuning", "disabled_at")}
    | {("audit_events", column, role) for column in _GIVEN for role in (TENANT_ROLE, PLATFORM_ROLE, SEALER_ROLE)}
    | {("audit_events", column, SEALER_ROLE) for column in ("seq", "hash", "noun")}
)
#: What the platform's role may only look at: the audit's chains are the sealer's.
READ_ONLY = {"audit_events", "audit_heads", "audit_checkpoints", "audit_cuts"}
ROLES = (*GROUP_ROLES, LOGIN_ROLE)

_TABLES = """
  SELECT c.oid, c.relname, c.relrowsecurity, c.relforcerowsecurity, EXISTS (
      SELECT 1 FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'tenant_id' AND NOT a.attisdropped
    ) AS has_tenant
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind IN ('r', 'p') AND left(n.nspname, 3) <> 'pg_' AND n.nspname <> 'information_schema'
"""
Connection = psycopg.Connection[Any]


def tenant_tables(connection: Connection) -> set[str]:
    return {row[1] for row in connection.execute(_TABLES) if row[4]}


def row_security(connection: Connection) -> list[str]:
    """Every table has it, enabled and forced, but those that hold nothing of a tenant's."""
    found = []
    for _, table, enabled, forced, has_tenant in connection.execute(_TABLES):
        if table in UNPROTECTED and not has_tenant:
            continue
        found += [] if enabled else [f"{table}: row-level security is not enabled"]
        found += [] if forced else [f"{table}: row-level security is not forced"]
    return found


def policies(connection: Connection) -> list[str]:
    """The tenant role sees rows through the one policy; nothing is open to everybody."""
    found = []
    guarded = set()
    rows = connection.execute(
        """SELECT c.relname, p.polname, p.polcmd, p.polpermissive, pg_get_expr(p.polqual, p.polrelid),
             pg_get_expr(p.polwithcheck, p.polrelid), array_remove(array_agg(r.rolname::text), NULL)
           FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid LEFT JOIN pg_roles r ON r.oid = ANY (p.polroles)
           GROUP BY p.oid, c.relname"""
    ).fetchall()
    tables = tenant_tables(connection)
    for table, name, command, permissive, using, check, roles in rows:
        if not roles:
            found.append(f"{table}.{name}: is for everybody")
        if roles == [PLATFORM_ROLE] or (table, name) in TENANT_VIEWS:
            continue
        if (command, permissive, using, check) != ("*", True, TENANT_POLICY, TENANT_POLICY) or table not in tables:
            found.append(f"{table}.{name}: is not the tenant policy")
        else:
            guarded.add(table)
    return found + [f"{table}: has no tenant policy" for table in sorted(tables - guarded)]


def keys(connection: Connection) -> list[str]:
    """Keys, unique indexes and references of a tenant's table begin with the tenant."""
    tables = tenant_tables(connection)
    found = []
    primary = set()
    rows = connection.execute(
        """SELECT c.relname, i.indisprimary, array_agg(a.attname ORDER BY k.position)
           FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
           CROSS JOIN unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, position)
           LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum
           WHERE i.indisunique GROUP BY i.indexrelid, c.relname, i.indisprimary"""
    )
    for table, is_primary, columns in rows:
        if table not in tables or (table, tuple(columns)) in UNIQUE_ACROSS_TENANTS:
            continue
        if columns[0] != "tenant_id":
            found.append(f"{table}{tuple(columns)}: a unique index does not begin with the tenant")
        elif is_primary:
            primary.add(table)
    found += [f"{table}: has no primary key that begins with the tenant" for table in sorted(tables - primary)]
    return found + _references(connection, tables)


def _references(connection: Connection, tables: set[str]) -> list[str]:
    found = []
    rows = connection.execute(
        """SELECT c.relname, f.relname, k.conname,
             (SELECT attname FROM pg_attribute WHERE attrelid = k.conrelid AND attnum = k.conkey[1]),
             (SELECT attname FROM pg_attribute WHERE attrelid = k.confrelid AND attnum = k.confkey[1])
           FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_class f ON f.oid = k.confrelid
           WHERE k.contype = 'f'"""
    )
    for table, target, name, column, target_column in rows:
        if table in tables and target not in PLATFORM_TARGETS and (column, target_column) != ("tenant_id", "tenant_id"):
            found.append(f"{table}.{name}: a reference to {target} does not begin with the tenant")
        if table not in tables and target in tables:
            found.append(f"{table}.{name}: a table of nobody's refers to a tenant's")
    return found


def roles(connection: Connection) -> list[str]:
    """The roles of run time are weak, own nothing and make nothing."""
    found = []
    rows = connection.execute(
        """SELECT rolname, rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb OR rolreplication, rolcanlogin,
             rolinherit, has_schema_privilege(rolname, 'public', 'CREATE'),
             has_database_privilege(rolname, current_database(), 'CREATE'),
             EXISTS (SELECT 1 FROM pg_shdepend d WHERE d.refclassid = 'pg_authid'::regclass AND d.refobjid = r.oid
                       AND d.deptype = 'o'),
             ARRAY(SELECT g.rolname FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid
                   WHERE m.member = r.oid ORDER BY 1)
           FROM pg_roles r WHERE rolname = ANY (%s)""",
        [list(ROLES)],
    ).fetchall()
    for name, is_strong, can_log_in, inherits, creates, creates_schemas, owns, member_of in rows:
        found += [f"{name}: is superuser, bypasses row-level security or makes roles"] if is_strong else []
        found += [f"{name}: may create in the database"] if creates or creates_schemas else []
        found += [f"{name}: owns something"] if owns else []
        found += [f"{name}: inherits rights"] if inherits else []
        found += [f"{name}: logs in"] if can_log_in and name in GROUP_ROLES else []
        wanted = sorted(GROUP_ROLES) if name == LOGIN_ROLE else []
        found += [f"{name}: is a member of {member_of}"] if sorted(member_of) != wanted else []
    return found + [f"{name}: is missing" for name in sorted(set(ROLES) - {row[0] for row in rows})]


def rights(connection: Connection) -> list[str]:
    """Each role has the rights that this file lists for it, and nobody may empty a table or hang a trigger on one."""
    found = []
    rows = connection.execute(
        f"""SELECT t.relname, r.rolname, p.privilege FROM ({_TABLES}) t CROSS JOIN pg_roles r
            CROSS JOIN unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER'])
              AS p (privilege)
            WHERE r.rolname = ANY (%s) AND has_table_privilege(r.oid, t.oid, p.privilege)""",
        [list(ROLES)],
    )
    held: dict[tuple[str, str], set[str]] = {}
    for table, role, privilege in rows:
        held.setdefault((table, role), set()).add(privilege)
    for (table, role), privileges in sorted(held.items()):
        excess = sorted(privileges - _allowed(table, role))
        found += [f"{role} has {', '.join(excess)} on {table}"] if excess else []
    return found + _stray_grants(connection)


def _allowed(table: str, role: str) -> set[str]:
    usual = {"SELECT", "INSERT", "UPDATE", "DELETE"}
    if table == "alembic_version":
        return {"SELECT"}
    if role == TENANT_ROLE:
        return set(TENANT_RIGHTS.get(table, "").split())
    if role == PLATFORM_ROLE and table not in UNPROTECTED:
        return {"SELECT"} if table in READ_ONLY else usual
    if role == SEALER_ROLE:
        return set(SEALER_RIGHTS.get(table, "").split())
    return usual if role == QUEUE_ROLE and table.startswith("procrastinate_") else set()


def _stray_grants(connection: Connection) -> list[str]:
    columns = connection.execute(
        """SELECT c.relname, a.attname, coalesce(r.rolname, 'PUBLIC') FROM pg_attribute a
           JOIN pg_class c ON c.oid = a.attrelid CROSS JOIN aclexplode(a.attacl) x
           LEFT JOIN pg_roles r ON r.oid = x.grantee WHERE c.relnamespace = 'public'::regnamespace"""
    )
    found = [f"{role} has a right on {table}.{column}" for table, column, role in columns if
             (table, column, role) not in COLUMN_RIGHTS]  # fmt: skip
    public = connection.execute(
        """SELECT c.relname FROM pg_class c CROSS JOIN aclexplode(c.relacl) x
           WHERE c.relnamespace = 'public'::regnamespace AND x.grantee = 0 AND c.relname <> 'alembic_version'"""
    )
    found += [f"PUBLIC has a right on {table}" for (table,) in public]
    sequences = connection.execute(
        """SELECT c.relname FROM pg_class c WHERE c.relkind = 'S' AND c.relnamespace = 'public'::regnamespace
             AND (has_sequence_privilege(%(role)s, c.oid, 'SELECT') OR has_sequence_privilege(%(role)s, c.oid, 'UPDATE')
               OR (c.relname <> 'blob_seq' AND has_sequence_privilege(%(role)s, c.oid, 'USAGE')))""",
        {"role": TENANT_ROLE},
    )
    return found + [f"{TENANT_ROLE} may look into the sequence {name}" for (name,) in sequences]


def detours(connection: Connection) -> list[str]:
    """No view, function or schema leads around the policies."""
    views = connection.execute(
        """SELECT c.relname, c.relkind, coalesce(c.reloptions::text LIKE '%security_invoker=true%', false)
           FROM pg_class c WHERE c.relkind IN ('v', 'm') AND c.relnamespace = 'public'::regnamespace"""
    )
    found = [f"{name}: a view with its owner's rights" for name, kind, invoker in views if kind == "m" or not invoker]
    functions = connection.execute(
        """SELECT p.oid::regprocedure::text, p.prosecdef, has_function_privilege(%s, p.oid, 'EXECUTE')
           FROM pg_proc p WHERE p.pronamespace = 'public'::regnamespace""",
        [TENANT_ROLE],
    )
    for name, is_definer, is_open in functions:
        found += [f"{name}: runs with its owner's rights"] if is_definer else []
        found += [f"{name}: the tenant role may call it"] if is_open else []
    schemas = connection.execute(
        """SELECT nspname FROM pg_namespace
            WHERE left(nspname, 3) <> 'pg_' AND nspname NOT IN ('public', 'information_schema')"""
    )
    return found + [f"{name}: a schema that nobody looks after" for (name,) in schemas]


CHECKS: tuple[Callable[[Connection], list[str]], ...] = (row_security, policies, keys, roles, rights, detours)


def findings(connection: Connection) -> list[str]:
    """Everything that is wrong."""
    return [finding for check in CHECKS for finding in check(connection)]
