# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is done in Azure, for a whole fleet in one process.

step              how any remedy is carried out: read, write one property of one resource, read again
machine           remedies of the VM: power_state, reapply
security          remedy nsg_rule, and its undo
address           remedy static_ip, and its undo
extension         remedy remove_extension
backup, waiting   remedy backup_now, and awaiting what it started
phases            which remedies a phase of a run does on which VMs, in order

A remedy is a Step. It says which resource a VM's change is made on, so that VMs that share one are dealt with one after the other; what it finds
there; what it would write; and whether what it wrote can be seen. Only step.py writes.
"""
