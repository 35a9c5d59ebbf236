# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Options by which the collection signs in to Azure: those of azure.azcollection, and a few more."""


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  auth_source:
    description:
      - Where the credentials come from. Also E(ANSIBLE_AZURE_AUTH_SOURCE); the default is V(auto).
      - V(auto) takes options, then the environment, then C(~/.azure/credentials), then C(az login).
      - V(env) takes options and the environment; V(credential_file) takes options and the file.
      - V(msi) is the managed identity of the controller, V(workload_identity) a federated token, V(cli) C(az login).
        These three and certificates need the Python package C(azure-identity). A client secret needs no package.
    type: str
    choices: [auto, env, credential_file, msi, workload_identity, cli]
  profile:
    description: Section of C(~/.azure/credentials). Also E(AZURE_PROFILE).
    type: str
  subscription_id:
    description:
      - One subscription. Also E(AZURE_SUBSCRIPTION_ID).
      - It counts where neither O(subscriptions) nor O(management_groups) is set.
    type: str
  client_id:
    description: Id of the application or of the user-assigned identity. Also E(AZURE_CLIENT_ID).
    type: str
  secret:
    description: Secret of the application. Also E(AZURE_SECRET) or E(AZURE_CLIENT_SECRET).
    type: str
  tenant:
    description: Id or domain name of the tenant. Also E(AZURE_TENANT) or E(AZURE_TENANT_ID).
    type: str
  x509_certificate_path:
    description: File with the application's certificate and private key, in PEM. Also E(AZURE_X509_CERTIFICATE_PATH).
    type: path
  thumbprint:
    description:
      - Thumbprint of the certificate in O(x509_certificate_path), as azure.azcollection takes it. Also E(AZURE_THUMBPRINT).
      - It is not needed. Where it is given, a file with another certificate is refused.
    type: str
  cloud_environment:
    description:
      - V(AzureCloud), V(AzureUSGovernment) or V(AzureChinaCloud). Also E(AZURE_CLOUD_ENVIRONMENT); the default is V(AzureCloud).
      - Any other name needs O(resource_manager_url) and O(adfs_authority_url).
    type: str
  adfs_authority_url:
    description: Address of the login endpoint, where it is not the cloud's own. Also E(AZURE_ADFS_AUTHORITY_URL).
    type: str
  resource_manager_url:
    description: Address of Azure Resource Manager, where it is not the cloud's own.
    type: str
  disable_instance_discovery:
    description: Keep C(azure-identity) from asking the public cloud about the login endpoint. Also E(AZURE_DISABLE_INSTANCE_DISCOVERY).
    type: bool
  ca_file:
    description:
      - File with the CA certificates to trust instead of the system's, for proxies that open TLS.
      - Without it, E(REQUESTS_CA_BUNDLE) and E(CURL_CA_BUNDLE) are read.
    type: path
  subscriptions:
    description:
      - Ids of the subscriptions to read.
      - Without this, O(subscription_id) and O(management_groups), all subscriptions that the identity sees are read.
    type: list
    elements: str
  management_groups:
    description: Names of management groups whose subscriptions are read. They go before O(subscriptions).
    type: list
    elements: str
  vaults:
    description:
      - Names or ids of the vaults to look at; the default is all.
      - A vault that is named by its id and closed to the identity is reported as such. Azure leaves out the others without a word.
    type: list
    elements: str
  effective_network:
    description:
      - Whether the effective security rules and routes of VMs whose backup failed are read, beside those that are written.
      - It takes two more requests and some seconds for each network interface, and the actions
        C(Microsoft.Network/networkInterfaces/effectiveNetworkSecurityGroups/action) and C(.../effectiveRouteTable/action), which the role Reader
        does not have.
    type: bool
    default: false
notes:
  - E(HTTPS_PROXY) and E(NO_PROXY) are obeyed, with user and password in the address.
  - Azure is only read. Reads of backup jobs are limited to 120 in an hour for a subscription, below Azure's own limit of 150.
"""

    # A remedy in Azure.
    WRITES = r"""
options:
  vms:
    description: Names or ids of the VMs.
    type: list
    elements: str
    required: true
  wait_s:
    description: Seconds to wait for the end of an operation in Azure.
    type: float
    default: 900.0
  max_failures:
    description: Nothing more is started when it failed on more resources than this.
    type: int
    default: 3
notes:
  - Runs once for all hosts of a play, on the controller, and touches no guest.
  - Before each write the resource is read, and after it again. A write is sent again only after an answer that proves that nothing was done.
attributes:
  check_mode:
    description: Can run in check mode. It sends nothing but reads and says what it would change.
    support: full
  diff_mode:
    description: Returns what was, or would be, changed.
    support: full
  platform:
    description: Runs on the controller.
    support: full
    platforms: all
"""

    # How backups are awaited.
    BACKUP = r"""
options:
  await:
    description:
      - What is awaited. V(snapshot) ends when the snapshot is taken, which takes about eight minutes and proves that the guest does its part;
        V(job) ends with the whole backup, which takes hours; V(none) awaits nothing.
      - A snapshot that was seen is "snapshot taken", never "backed up".
    type: str
    default: snapshot
    choices: [snapshot, job, none]
  await_s:
    description: Seconds to wait for it. V(0) waits 45 minutes for a snapshot and 6 hours for a job.
    type: float
    default: 0.0
  await_first_s:
    description: Seconds after the start until the first look. The following looks are half as far apart, at most four minutes.
    type: float
    default: 480.0
  parallel:
    description: How many backups of one vault are started at a time.
    type: int
    default: 50
  retention_days:
    description: Days after which the recovery point of the backup expires.
    type: int
    default: 30
"""
