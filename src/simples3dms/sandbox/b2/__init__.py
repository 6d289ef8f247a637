"""A B2 service on the loopback interface, for b2sdk, the `b2` command line and rclone.

It is an implementation of its own over SQLite and plain files. b2sdk's RawSimulator, the only other one, keeps whole
bodies in memory, checks few rights, and would have needed more repairs than there is code here.
Simulated: the native API's calls for keys, buckets, small and large files, copies, listings and downloads.
Left out: SSE-C, file lock, replication, notification rules, and running lifecycle rules.
"""

from simples3dms.sandbox.b2.faults import Call as Call
from simples3dms.sandbox.b2.sandbox import B2Sandbox as B2Sandbox
