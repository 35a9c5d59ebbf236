# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Parts of documentation that several modules share."""


class ModuleDocFragment:
    # Options of the collectors.
    COLLECTOR = r"""
options:
  gather_subset:
    description: Areas to look at. V(vss) is only on Windows guests.
    type: list
    elements: str
    default: [all]
    choices: [all, agent, extension, network, vss, load]
  timeout_s:
    description:
      - Seconds that a single probe may take, be it an endpoint or a mounted file system.
      - Probes wait at the same time, so a silent endpoint costs this much once.
      - A question to the service manager may take three times as long, one to the package manager five times, since a guest under load answers late.
    type: float
    default: 3.0
  deadline_s:
    description:
      - Seconds after which a Linux guest returns what it has found until then, whatever hangs.
      - What was left out is V(null) and named in C(errors) of the facts. Windows guests bound each of their probes instead.
    type: float
    default: 60.0
  cpu_window_ms:
    description: Least number of milliseconds over which the load of the processors is measured.
    type: int
    default: 200
  log_bytes:
    description: Number of bytes that are read from the end of each log.
    type: int
    default: 524288
  candidate:
    description:
      - Whether to ask the package manager's cache which version of the agent the repositories offer. Nothing is fetched.
      - With V(auto) it is asked when the agent is missing or older than O(candidate_below), since the question takes up to a second.
    type: str
    default: auto
    choices: [auto, always, never]
  candidate_below:
    description: Version below which the agent counts as old for O(candidate=auto).
    type: str
    default: 2.2.53.1
  storage_endpoint:
    description:
      - Name of a storage endpoint whose port 443 is probed, for example the one that your backups use.
      - Without it the newest name that the agent's log mentions is taken, and without one of those nothing is probed.
    type: str
  vss_writers:
    description:
      - Whether to ask C(vssadmin) for writers, providers and shadow storage on Windows guests. Linux guests have none.
      - With V(auto) it is asked when the last snapshot's result points at VSS, since writers may take a minute to answer.
    type: str
    default: auto
    choices: [auto, always, never]
"""

    # An observer.
    READS = r"""
options: {}
attributes:
  check_mode:
    description: Can run in check mode and returns the same, since it never changes anything.
    support: full
  diff_mode:
    description: Returns no diff, since it never changes anything.
    support: none
"""

    # A writer.
    WRITES = r"""
options: {}
attributes:
  check_mode:
    description: Can run in check mode and says what it would change.
    support: full
  diff_mode:
    description: Returns what was, or would be, changed.
    support: full
"""

    # A writer on Linux guests, with what all of them share beside WRITES.
    LINUX_WRITER = r"""
options:
  undo:
    description:
      - Name of the remedy under which the present state is kept for M(vmbackup.azure.undo) before anything is changed.
      - Without it nothing is kept.
    type: str
  keep_days:
    description: Days after which a kept state expires. It is removed when the next one is kept. V(0) keeps them for ever.
    type: int
    default: 90
  store:
    description: Directory of what is kept. It is used only when root alone can write it.
    type: path
    default: /var/lib/vmbackup_azure/undo
notes:
  - Takes the guest's lock and looks for a snapshot immediately before it writes. When another run is at work or a snapshot runs, nothing is
    changed and C(deferred) is returned.
attributes:
  platform:
    description: Linux guests.
    support: full
    platforms: linux
"""

    # What a writer that may cut the connection adds on both systems.
    GUARDED = r"""
options:
  confirm:
    description:
      - What an earlier call returned as RV(token). Tells the guest to keep that change, and does nothing else.
      - Where the answer of that call was lost, the name given in its O(undo) stands for the newest change of that name.
    type: str
  verify:
    description:
      - Whether to confirm the change over a new connection, which shows that the guest can still be reached. It is done from the controller,
        within half of O(confirm_s), and only where something waits for a confirmation.
      - With V(false) the change waits for a call with O(confirm).
    type: bool
    default: true
"""

    # What a writer on Linux guests adds that may cut the connection, beside GUARDED.
    LINUX_GUARDED = r"""
options:
  confirm_s:
    description:
      - Seconds within which the change has to be confirmed, by O(verify) or by a second call with O(confirm). Otherwise the guest puts the former
        state back by itself, which brings back a guest that was cut off.
      - A timer of systemd is started before the change, and a unit that does the same when the guest restarts before the confirmation. When they
        cannot be started, nothing is changed. They lie below C(/var/lib/vmbackup_azure/guard).
      - Until then every other change of this kind and M(vmbackup.azure.undo) are deferred on this guest.
      - V(0) is without such a net. Needs O(undo).
    type: int
    default: 0
"""

    # A writer on Windows guests, with what all of them share beside WRITES.
    WINDOWS_WRITER = r"""
options:
  undo:
    description:
      - Name of the repair, such as V(agent.service). The former state is then kept before anything is changed, in a file below
        C(C:\ProgramData\vmbackup_azure\undo), which only SYSTEM and administrators can read, for M(vmbackup.azure.win_undo).
      - Without it nothing is kept.
    type: str
  keep_days:
    description:
      - Days after which undo points are removed when a new one is kept. V(0) keeps them for ever. One that a younger point builds on stays.
    type: int
    default: 90
notes:
  - Needs an administrator.
  - Takes the lock of the guest, a mutex of Windows, before it reads and writes. When another run holds it for more than ten seconds, nothing
    is changed and C(deferred) is returned.
  - Looks for a snapshot immediately before the first write. When one runs or starts, nothing is changed and C(deferred) is returned.
  - Everything is checked before the first write. When a write fails, what this call changed before is put back.
attributes:
  platform:
    description: Windows guests, Windows PowerShell 5.1 and newer.
    support: full
    platforms: windows
seealso:
  - module: vmbackup.azure.win_undo
"""

    # What a writer on Windows guests adds that may cut the connection, beside GUARDED.
    WINDOWS_GUARDED = r"""
options:
  confirm_s:
    description:
      - Seconds within which the change has to be confirmed, by O(verify) or by a second call with O(confirm). Otherwise a process of the guest
        puts the former state back by itself, which brings back a guest that was cut off. It writes to a file below C(C:\ProgramData\vmbackup_azure\guard).
      - The process is started before the change. When it does not start, nothing is changed. A restart of the guest ends it; the notes say what
        brings the former state back then. What somebody else changes meanwhile is left.
      - Until then every other change of this kind is deferred on this guest.
      - V(0) is without such a net. Needs O(undo).
    type: int
    default: 0
notes:
  - The confirmation of a change (O(confirm)) looks for no snapshot. A change that was not finished, or does not stand any more, is not confirmed, and
    the module fails. By its token a change can be confirmed twice.
"""
