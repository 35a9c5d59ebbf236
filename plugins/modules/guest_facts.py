#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

DOCUMENTATION = r"""
module: guest_facts
short_description: Collect what decides whether Azure can back up this guest
version_added: 0.1.0
description:
  - Reads the state of the guest agent, the backup extension, the network towards the Azure host and the load, in one execution.
  - Only reads. Starts few processes, sends no secret, follows no proxy, and returns nothing that Azure protects.
  - On Windows guests it runs M(vmbackup.azure.win_guest_facts) and returns facts of the same shape.
  - What cannot be read is V(null) with an entry in RV(ansible_facts.vmbackup.errors) or RV(ansible_facts.vmbackup.not_visible).
notes:
  - Needs root (Windows, an administrator) for a full picture. Without it, it returns what it could see and names what it could not.
  - Needs Python 3.6 or newer on a Linux guest and no other package, Windows PowerShell 5.1 or newer on a Windows guest.
extends_documentation_fragment:
  - vmbackup.azure.attributes.collector
  - vmbackup.azure.attributes.reads
attributes:
  platform:
    description: Linux and Windows guests.
    support: full
    platforms: linux, windows
seealso:
  - module: vmbackup.azure.diagnose
  - module: vmbackup.azure.win_guest_facts
author:
  - vmbackup.azure contributors (@vmbackup)
"""

EXAMPLES = r"""
- name: Collect everything
  vmbackup.azure.guest_facts:
  become: true

- name: See whether a snapshot runs
  vmbackup.azure.guest_facts:
    gather_subset: [extension]
  become: true

- name: Collect facts and keep them for a later diagnosis
  vmbackup.azure.guest_facts:
  become: true
  register: collected

- name: Write the facts to the controller
  ansible.builtin.copy:
    content: "{{ collected.ansible_facts.vmbackup | to_nice_json }}"
    dest: "facts-{{ inventory_hostname }}.json"
    mode: "0600"
  delegate_to: localhost
"""

RETURN = r"""
ansible_facts:
  description: Facts to add to the host. C(docs/facts.md) lists every key.
  returned: always
  type: dict
  contains:
    vmbackup:
      description: All facts of this collection.
      returned: always
      type: dict
      contains:
        # generated: facts
        schema_version:
          description: 'Version of the shape of these facts: 1.'
          returned: always
          type: int
        collected_at:
          description: When the collection began.
          returned: always
          type: str
        duration_ms:
          description: How long it took on the guest.
          returned: always
          type: int
        gather_subset:
          description: 'The areas that were looked at: agent, extension, network, load, on Windows vss too.'
          returned: always
          type: list
          elements: str
        system:
          description: The guest's system, and what the collector may see.
          returned: always
          type: dict
          contains:
            kind:
              description: 'The kind of system: linux or windows.'
              returned: always
              type: str
            kernel:
              description: Version of the kernel.
              returned: always
              type: str
            architecture:
              description: Architecture of the processors, such as x86_64.
              returned: always
              type: str
            init:
              description: 'What starts services: systemd, upstart, openrc, sysv, other.'
              returned: always
              type: str
            hostname:
              description: The guest's own name.
              returned: always
              type: str
            python_version:
              description: Version of the Python that ran the collector.
              returned: always
              type: str
            privileged:
              description: The collector ran as root, or as an administrator.
              returned: always
              type: bool
            uptime_s:
              description: Seconds since the guest started.
              returned: always
              type: float
            utc_offset_s:
              description: Seconds that the guest's local time is ahead of UTC at the moment.
              returned: always
              type: float
            fips:
              description: FIPS mode is on.
              returned: always
              type: bool
            image_based:
              description: The system is an image that packages do not change.
              returned: always
              type: bool
            distribution:
              description: 'The distribution. Keys: C(id), C(version_id), C(id_like), C(pretty_name), C(family).'
              returned: always
              type: dict
        errors:
          description: Probes that failed, each with its own reason.
          returned: always
          type: list
          elements: dict
          contains:
            area:
              description: The area.
              returned: always
              type: str
            what:
              description: What was tried.
              returned: always
              type: str
            error:
              description: What came back.
              returned: always
              type: str
        not_visible:
          description: 'What could not be seen, and why: most often no root, no administrator.'
          returned: always
          type: list
          elements: str
        agent:
          description: The guest agent, and on Windows the services that backup depends on.
          returned: always
          type: dict
          contains:
            service:
              description: 'The agent''s unit; null on Windows, and where there is no unit. Keys: C(manager), C(unit), C(load_state), C(active_state),
                C(sub_state), C(unit_file_state), C(masked), C(restart), C(result), C(exit_status), C(start_limit_hit), C(restarts), C(condition_result),
                C(conditions_failed), C(fragment_path), C(drop_ins), C(exec_start), C(main_pid), C(active_since), C(candidates).'
              returned: always
              type: dict
            binary:
              description: Path of the agent's program; on Windows RdAgent's when that is all there is.
              returned: always
              type: str
            package:
              description: 'The agent''s package; null without one. Keys: C(manager), C(name), C(installed), C(version), C(candidate), C(candidate_looked),
                C(held), C(repositories_disabled), C(state), C(older_versions), C(unfinished_others).'
              returned: always
              type: dict
            code:
              description: 'The agent''s own source file that tells its version. Keys: C(path), C(local).'
              returned: always
              type: dict
            version:
              description: 'The agent''s versions. Keys: C(daemon), C(goal_state), C(goal_state_source).'
              returned: always
              type: dict
            processes:
              description: 'The agent''s processes. Keys: C(daemon), C(handler).'
              returned: always
              type: dict
            handler_failures:
              description: 'Failures of the extension handler that the daemon saw in the last hour since its own last start. Keys: C(count), C(last_at),
                C(line).'
              returned: always
              type: dict
            heartbeat:
              description: 'The agent''s newest heartbeat: of its log, on Windows of the registry first. Keys: C(at), C(age_s), C(version), C(periodic).'
              returned: always
              type: dict
            config:
              description: 'Waagent.conf. Keys: C(path), C(exists), C(readable), C(problem), C(empty), C(modified_at), C(values), C(duplicates),
                C(loose), C(unknown_backup_keys).'
              returned: always
              type: dict
            markers:
              description: 'Files that change what the agent does. Keys: C(disable_agent), C(pid_file), C(policy).'
              returned: always
              type: dict
            auto_update:
              description: 'What the agent downloaded to update itself. Keys: C(directories).'
              returned: always
              type: dict
            lib_dir:
              description: 'The agent''s folder, /var/lib/waagent, and its file system. Keys: C(path), C(exists), C(mount_point), C(fs_type),
                C(options), C(noexec), C(read_only), C(free_bytes), C(size_bytes), C(free_inodes), C(inodes).'
              returned: always
              type: dict
            python:
              description: 'The Python that runs the agent. Keys: C(path), C(exists), C(resolved).'
              returned: always
              type: dict
            openssl:
              description: 'The openssl that the agent calls. Keys: C(path), C(exists), C(resolved).'
              returned: always
              type: dict
            log:
              description: 'The log; of the extension on Windows: the folder of its logs. Keys: C(path), C(size_bytes), C(starts_last_hour), C(verdicts).'
              returned: always
              type: dict
        extension:
          description: The extensions, and what the last snapshot came to.
          returned: always
          type: dict
          contains:
            handlers:
              description: 'An extension, in its current version; on Windows by the agent''s last report or the handler''s own heartbeat file.
                Keys: C(name), C(version), C(state), C(status), C(code), C(message).'
              returned: always
              type: list
              elements: dict
            snapshot:
              description: 'The snapshot extension: VMSnapshotLinux, on Windows VMSnapshot. Keys: C(installed), C(version), C(state), C(handler_status),
                C(handler_code), C(handler_message), C(sequence), C(code), C(code_name), C(code_source), C(message), C(reported_status), C(host_codes),
                C(at), C(age_s), C(task_id), C(started_at), C(processes), C(in_progress), C(stuck), C(history), C(vm_health), C(vm_health_code),
                C(failed_disks), C(settings_sequence), C(settings_at), C(settings_age_s), C(recent_s), C(busy).'
              returned: always
              type: dict
            aggregate:
              description: 'What the agent last reported for all extensions. Keys: C(path), C(at), C(age_s), C(agent_status), C(agent_version),
                C(goal_state_status), C(goal_state_message), C(handlers).'
              returned: always
              type: dict
            vmbackup_conf:
              description: 'Vmbackup.conf of the extension. Keys: C(path), C(exists), C(valid), C(error), C(values).'
              returned: always
              type: dict
            script_hooks:
              description: 'Scripts that run before and after the snapshot. Keys: C(path), C(exists), C(mode), C(owner_uid), C(problems).'
              returned: always
              type: list
              elements: dict
            log:
              description: 'The log; of the extension on Windows: the folder of its logs. Keys: C(path), C(size_bytes), C(starts_last_hour), C(verdicts).'
              returned: always
              type: dict
        network:
          description: Primary interface, DHCP, routes, probes, proxies, firewall.
          returned: always
          type: dict
          contains:
            primary:
              description: 'The primary interface. Keys: C(interface), C(mac), C(address), C(prefix_length), C(gateway), C(state).'
              returned: always
              type: dict
            imds_addresses:
              description: Private addresses that IMDS gives to the primary interface; DHCP brings the first.
              returned: always
              type: list
              elements: str
            dhcp:
              description: 'How the primary interface gets its address. Keys: C(client), C(method), C(method_source), C(lease_file), C(lease_active),
                C(option_245), C(option_245_looked), C(option_245_possible), C(server).'
              returned: always
              type: dict
            routes:
              description: 'By address of the host, 168.63.129.16 and 169.254.169.254: how the system would send.'
              returned: always
              type: dict
            probes:
              description: 'What answered: wireserver, hostgaplugin, imds, storage, proxy.'
              returned: always
              type: dict
            region:
              description: The VM's region, from IMDS.
              returned: always
              type: str
            cloud:
              description: The cloud, from IMDS.
              returned: always
              type: str
            foreign_macs:
              description: 'Configured hardware addresses that no interface has. Keys: C(path), C(mac).'
              returned: always
              type: list
              elements: dict
            resolvers:
              description: Name servers.
              returned: always
              type: list
              elements: str
            proxy:
              description: 'Proxies: of waagent.conf and the service''s environment; on Windows of WinHTTP, the SYSTEM account, the machine (by
                policy), the machine''s environment and .NET''s machine.config. Keys: C(source), C(name), C(value), C(bypass), C(bypasses_host).'
              returned: always
              type: list
              elements: dict
            firewall:
              description: 'What keeps the Azure host away. Keys: C(agent_rules), C(drops_root), C(places).'
              returned: always
              type: dict
        load:
          description: Processors, memory, pressure, file systems, time.
          returned: always
          type: dict
          contains:
            cpu:
              description: 'The processors, between two looks. Keys: C(busy_percent), C(steal_percent), C(window_ms), C(count), C(load_1m).'
              returned: always
              type: dict
            memory:
              description: 'Memory. Keys: C(total_bytes), C(available_bytes), C(used_percent), C(swap_total_bytes), C(swap_used_bytes).'
              returned: always
              type: dict
            pressure:
              description: 'Pressure stall information; null where the kernel has none. Keys: C(cpu), C(memory), C(io).'
              returned: always
              type: dict
            filesystems:
              description: 'File systems; on Windows the fixed drives. Keys: C(mount_point), C(device), C(fs_type), C(freezes), C(read_only),
                C(size_bytes), C(free_bytes), C(used_percent), C(inodes_used_percent), C(responds), C(directory), C(duplicate), C(error).'
              returned: always
              type: list
              elements: dict
            time:
              description: 'The clock. Keys: C(synchronised), C(source), C(offset_s), C(unit), C(unit_state), C(unit_file_state).'
              returned: always
              type: dict
        # generated: end
"""

import platform

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.vmbackup.azure.plugins.module_utils._facts import argument_spec
from ansible_collections.vmbackup.azure.plugins.module_utils._linux.collect import collect_within


def main():
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    if platform.system() != "Linux":
        module.fail_json(msg="guest_facts reads Linux guests; this one says that it is {0}.".format(platform.system()))
    positive = all(0 < module.params[name] < 86400 for name in ("timeout_s", "deadline_s")) and module.params["log_bytes"] > 0
    if not positive or module.params["cpu_window_ms"] < 0:
        module.fail_json(msg="timeout_s, deadline_s and log_bytes must be above 0, cpu_window_ms must not be negative.")
    module.exit_json(changed=False, ansible_facts={"vmbackup": collect_within(module.params, module.run_command)})


if __name__ == "__main__":
    main()
