# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The VMs whose backup failed, as an inventory."""

from __future__ import annotations

DOCUMENTATION = r"""
name: failed_backups
short_description: Azure VMs whose last backup failed
version_added: 0.1.0
author: vmbackup.azure contributors (@vmbackup)
description:
  - Lists the virtual machines whose last backup by Azure Backup failed, over subscriptions, management groups and vaults, each with the error of
    its backup, the vault, the last good recovery point and what Azure knows of its state.
  - Azure is read once, with lists and Resource Graph; then one request for each VM that failed.
  - The host of each VM has a group of its own beside others, C(backup_vm_) with the first 16 hexadecimal digits of the SHA-256 of the VM's id in lower
    case. As a limit it means this VM alone, whatever its host is called; the rulebook C(vmbackup.azure.azure_backup) uses it.
  - The name of the file must end in C(failed_backups.yml) or C(failed_backups.yaml).
  - Every text that comes from Azure is untrusted. Templates in tags, names and messages are never evaluated, also not from the cache and not after
    O(compose). Names of hosts and groups keep letters, digits, C(_), C(.) and C(-) only.
extends_documentation_fragment:
  - constructed
  - inventory_cache
  - vmbackup.azure.azure
options:
  plugin:
    description: Marks a file as one of this plugin's.
    required: true
    choices: [vmbackup.azure.failed_backups]
  include:
    description:
      - Which VMs become hosts. Each kind has a group, such as C(backup_failed). The playbook C(remediate) acts on failed ones.
      - V(failed), the last backup failed. V(unprotected), no vault backs the VM up. V(rpo_breached), the last recovery point is older than one and
        a half intervals of the policy.
      - V(stopped), backup was stopped or suspended and its data are kept. V(soft_deleted), the data are about to be deleted.
        V(vm_gone), the VM of the backup is not there any more.
    type: list
    elements: str
    default: [failed]
    choices: [failed, unprotected, rpo_breached, stopped, soft_deleted, vm_gone]
  hostnames:
    description:
      - Expressions, of which the first that gives a text is the host's name. V(default) is the VM's name.
      - Variables are the host's own and C(name), C(resource_group), C(location), C(id), C(tags), C(computer_name), C(powerstate), C(vmid),
        C(private_ipv4_addresses), C(public_ipv4_address), as in the plugin C(azure_rm) of azure.azcollection.
      - Equal names get a suffix that is made of the VM's id and stays the same.
    type: list
    elements: str
    default: [default]
  prefer_address:
    description: Which of its addresses is C(ansible_host). Where a VM has none of this kind, the other is taken.
    type: str
    default: private
    choices: [private, public]
seealso:
  - plugin: azure.azcollection.azure_rm
    plugin_type: inventory
    description: All VMs, with the same credentials.
"""

EXAMPLES = r"""
# prod.failed_backups.yml; the credentials are in AZURE_CLIENT_ID, AZURE_SECRET and AZURE_TENANT.
# Only the first line is needed.
plugin: vmbackup.azure.failed_backups
management_groups: [production]
include: [failed, rpo_breached]
hostnames: [tags.fqdn, computer_name, default]
compose:
  ansible_user: "'azureadmin' if vmbackup_os == 'linux' else 'Administrator'"
keyed_groups:
  - prefix: stage
    key: vmbackup_tags.environment
cache: true
cache_plugin: ansible.builtin.jsonfile
cache_connection: ~/.cache/failed_backups
cache_timeout: 900
"""

from typing import Any

from ansible.errors import AnsibleError, AnsibleParserError
from ansible.plugins.inventory import BaseInventoryPlugin, Cacheable, Constructable
from ansible_collections.vmbackup.azure.plugins.plugin_utils._arm import errors
from ansible_collections.vmbackup.azure.plugins.plugin_utils._arm.client import Client
from ansible_collections.vmbackup.azure.plugins.plugin_utils._arm.options import ARGUMENTS, scope_of
from ansible_collections.vmbackup.azure.plugins.plugin_utils._azure import hosts, read
from ansible_collections.vmbackup.azure.plugins.plugin_utils._azure.backup import STATES
from ansible_collections.vmbackup.azure.plugins.plugin_utils._unsafe import untrusted

# Of what is cached; another one is read anew.
FORMAT = 2
# How guests of a system are reached: variables of a group, so that group_vars of the user go before them.
CONNECTIONS = {"linux": {"ansible_connection": "ssh"}, "windows": {"ansible_connection": "winrm"}}


class InventoryModule(BaseInventoryPlugin, Constructable, Cacheable):
    NAME = "vmbackup.azure.failed_backups"

    # Names of groups are made of Azure's texts too, whatever TRANSFORM_INVALID_GROUP_CHARS says.
    _sanitize_group_name = staticmethod(hosts.group_name)

    def verify_file(self, path: str) -> bool:
        return super().verify_file(path) and path.endswith(("failed_backups.yml", "failed_backups.yaml"))

    def parse(self, inventory: Any, loader: Any, path: str, cache: bool = True) -> None:
        super().parse(inventory, loader, path)
        self._read_config_data(path)
        try:
            found = self._cached(path, cache)
        except errors.AzureError as error:
            raise AnsibleParserError("{0}: {1}".format(self.NAME, error)) from None
        for sentence in found["errors"] + found["notes"]:
            self.display.warning(sentence)
        self._add(found)

    # Reading

    def _cached(self, path: str, cache: bool) -> dict[str, Any]:
        """Return what was found: from the cache where it may be used, and kept in it."""
        self.load_cache_plugin()
        key = self.get_cache_key(path)
        use = self.get_option("cache") and cache
        if use:
            kept = self._cache.get(key)
            if isinstance(kept, dict) and kept.get("format") == FORMAT:
                return kept
        found = self._read()
        if self.get_option("cache"):
            self._cache[key] = found
        return found

    def _read(self) -> dict[str, Any]:
        """Read Azure. What is kept are the VMs that are in any of the states, not the whole fleet."""
        options = {name: self._plain(name) for name in ARGUMENTS}

        def told(method: str, url: str, status: int, seconds: float) -> None:
            self.display.vvvv("{0} {1} -> {2}, {3:.2f} s".format(method, url, status, seconds))

        with Client.from_options(options, on_request=told) as client:
            fleet = read.fleet(client, scope_of(options))
        shared = hosts.twins(fleet["vms"].values())
        kept = [{"vm": vm, "shared": vm["key"] in shared} for _key, vm in sorted(fleet["vms"].items()) if vm["states"]]
        self.display.vv("Azure was read with {0}".format(fleet["requests"]))
        return {"format": FORMAT, "vms": kept, "errors": fleet["errors"], "notes": fleet["notes"]}

    def _plain(self, name: str) -> Any:
        """Return an option; templates in it are the user's own and may look up a secret."""
        value = self.get_option(name)
        if isinstance(value, list):
            return [str(entry) for entry in value]
        if isinstance(value, str) and self.templar.is_template(value):
            value = self.templar.template(value)
        return value

    # Hosts

    def _add(self, found: dict[str, Any]) -> None:
        wanted = [state for state in STATES if state in self.get_option("include")]
        chosen = [entry for entry in found["vms"] if set(entry["vm"]["states"]) & set(wanted)]
        names = hosts.apart({entry["vm"]["key"]: self._name(entry) for entry in chosen})
        for state in wanted:
            self.inventory.add_group(hosts.PREFIX + state)
        for system, variables in CONNECTIONS.items():
            group = self.inventory.add_group("{0}os_{1}".format(hosts.PREFIX, system))
            for name, value in variables.items():
                self.inventory.set_variable(group, name, value)
        for entry in chosen:
            self._add_host(names[entry["vm"]["key"]], entry["vm"])

    def _name(self, entry: dict[str, Any]) -> str:
        """Return the host's name: the first expression that gives one."""
        vm = entry["vm"]
        variables = untrusted({**hosts.variables_of(vm), **hosts.names_of_azure_rm(vm)})
        for expression in self.get_option("hostnames"):
            if expression == "default":
                break
            try:
                name = self._compose(expression, variables)
            except Exception as error:
                if self.get_option("strict"):
                    raise AnsibleParserError(
                        "Could not make a name of {0!r} for VM {1}: {2}".format(expression, vm["name"], errors.one_line(error))
                    ) from None
                continue
            if isinstance(name, str) and name.strip():
                return hosts.host_name(name, vm["key"])
        return hosts.name_of(vm, entry["shared"])

    def _add_host(self, host: str, vm: dict[str, Any]) -> None:
        self.inventory.add_host(host)
        variables = untrusted(hosts.variables_of(vm, self.get_option("prefer_address")))
        for name, value in variables.items():
            self.inventory.set_variable(host, name, value)
        for group in hosts.groups_of(vm):
            self.inventory.add_child(self.inventory.add_group(group), host)
        strict = self.get_option("strict")
        try:
            self._set_composite_vars(self.get_option("compose"), variables, host, strict=strict)
            self._distrust(host)
            self._add_host_to_composed_groups(self.get_option("groups"), variables, host, strict=strict)
            self._add_host_to_keyed_groups(self.get_option("keyed_groups"), variables, host, strict=strict)
        except AnsibleError as error:
            raise AnsibleParserError("{0}: {1}".format(self.NAME, errors.one_line(error))) from None

    def _distrust(self, host: str) -> None:
        """Mark what was composed as untrusted: it may hold parts of Azure's texts."""
        kept = self.inventory.get_host(host).vars
        for name in self.get_option("compose") or {}:
            if name in kept:
                self.inventory.set_variable(host, name, untrusted(kept[name]))
