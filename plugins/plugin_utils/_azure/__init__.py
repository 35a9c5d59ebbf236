# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What Azure knows of VMs and their backups, read once for a whole fleet. Rules are pure functions over what C(read.fleet) returns.

Everything is plain data (dict, list, str, int, float, bool, None) that JSON can hold. None means: not known, or not read. Keys are always there.
Texts are Azure's own: untrusted, without control characters. Times are ISO 8601, UTC, in seconds. Ids are written as Azure wrote them; a key of
a mapping is the id in lower case, because one service writes ids in another letter case than the next.

The fleet::

    read_at                 time of Azure's clock when reading began
    clock_skew_s            seconds that the controller's clock is ahead of Azure's
    subscriptions           {id: {id, name, state}}, those that were read
    vms                     {vm id: VM, see below}; VMs that are gone but still have a backup item are here too
    vaults                  {vault id: {id, name, resource_group, subscription_id, region, public_network_access}}
    policies                {policy id: policy, see below}
    restore_points          [{id, name, resource_group, subscription_id, region, vm_id, provisioning_state}], all collections
    errors                  sentences: what could not be read, and why; the rest was read
    notes                   sentences: waits, clocks
    requests                {method: number of requests}, without sign-ins
    budget                  {"subscription: kind": requests of the last hour}

A VM::

    read_at                 that of the fleet
    id, key                 the id as Azure writes it, and in lower case
    name, resource_group, subscription_id, region, zones, tags, size, vm_id
    exists                  False: Azure says that there is no such VM. None: it could not be asked
    os                      linux, windows
    os_name, os_version, computer_name      by the agent; none of them while the VM is deallocated
    image                   {publisher, offer, sku}
    security_type           TrustedLaunch, ConfidentialVM; None is Standard
    provisioning_state      Succeeded, Failed, Updating ...
    provisioning_error      what stands behind ProvisioningState/failed/
    power_state             running, starting, stopped (still allocated), stopping, deallocating, deallocated, unknown
    allow_extension_operations, provision_vm_agent      of the model: false keeps every backup with the guest's help away
    view                    whether the instance view was read: read, not_read (its backup did not fail), failed
    agent                   {ready, status, version, message, time} by Azure; None: never reported, deallocated or view not read
    extensions              [{name, type, version, provisioning_state, status, level, message}], those that Azure can remove
    handlers                [{type, version, ready, status, level, message}], those that the agent reports
    snapshot_extension      {type, version, ready, status, message, name}; name is None where Azure cannot remove it, as on managed disks
    disks                   {os: disk, data: [disk]}; a disk: {name, id, lun, size_gb, storage, managed, write_accelerator, ephemeral, encryption}
    unusual_disks           [{id, name, sku, size_gb, max_shares, network_access}]: shared, Ultra, Premium v2 or very large ones
    network                 [network interface, see below]
    private_addresses, public_addresses
    locks                   [{id, name, level, notes, on}]; on: subscription, resource_group, vm, restore_points, vault
    restore_points          [{id, name, resource_group, provisioning_state}]: collections that were made of this VM
    states                  any of failed, unprotected, rpo_breached, stopped, soft_deleted, vm_gone; empty: backed up
    backup                  the item that counts, see below; None: not protected
    other_backups           [backup]: items of other vaults

A backup::

    item_id, vault_id, vault, vault_region, policy_id, policy, policy_type (V1, V2)
    protection_state        Protected, IRPending, ProtectionStopped, ProtectionError, ProtectionPaused, BackupsSuspended
    health                  Passed, ActionRequired, ActionSuggested
    last_status             Completed, Failed, None: never
    last_time, last_recovery_point, age_h   hours since the last recovery point
    failed                  whether the last backup failed
    rpo_h, rpo_breached     hours between two backups by the policy; whether age_h is beyond RPO_FACTOR times that
    soft_deleted, deleted_until_s           seconds until it is gone for good
    error                   {code, number, title, message, recommendations, source}; code is the symbol, None where Azure names none;
                            source: job, item, job_detail
    failed_since            start of the first failed job after the last good one; last_time where no job is known any more
    failed_jobs_14d, jobs_14d, failed_in_a_row, codes_14d ({code: number of jobs})
    last_failed_job         {id, name, operation, start, end, activity_id}
    running_job             the same, of a backup that runs
    crowd                   {start, time_zone, vms, rank, slots}: how many VMs of the vault start at that time, the place of this one among
                            them, and the vault's policies of that kind at other times: [{start, policy, vms}]; None: no more than 20

A policy::

    id, name, vault_id, type (V1, V2), frequency (Daily, Weekly, Hourly), start_times (["22:30"]), days, time_zone, items, instant_days
    interval_h              the longest time between two backups
    every_h                 of an hourly policy: the time between two starts within its window
    group_prefix, group_suffix (of the resource group of restore points)

A network interface::

    id, name, primary, private_addresses, public_addresses, subnet_id, dns_servers
    configurations          [{name, address, allocation}]: private addresses, and whether Azure keeps them (Static) or chooses them (Dynamic)
    load_balanced           whether it is in a pool of a load balancer; None: not read
    nsgs                    [{id, name, on (nic, subnet), rules}]; outbound rules that a user made, by priority:
                            {name, priority, access, protocol, sources, destinations, ports}; protocol in lower case; a rule for groups of
                            applications has no sources or destinations
    routes                  [{name, prefix, next_hop, address}] of the subnet's route table, next_hop as Azure writes it
    effective               which of nsgs and routes are the effective ones, as Azure reckons them, default rules included
    route_table_id, nat_gateway_id, service_endpoints, default_outbound_access
"""
