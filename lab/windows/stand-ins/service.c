/* SPDX-License-Identifier: GPL-3.0-or-later
   Copyright: vmbackup.azure contributors

   Stand-in for a Windows service: runs under the real service manager and does what the lab needs to see of that service.
   RdAgent and WindowsAzureGuestAgent give signs of life the way the real ones do: a heartbeat value, a log line, the aggregate status.
   RdAgent installs WindowsAzureGuestAgent from the file that the agent's installer brings, ten seconds after its start (NeverInstalls=1: never).
   A service with HealsWriters=1 makes the VSS writers stable when it starts. Everything else only runs. HKLM\SOFTWARE\VmbackupLab\Services\<name> sets a fault: StopHangs=1 (never gets past StopPending),
   Silent=1 (no signs of life), StartFails=1 (ends at once with error 1067). */
#include <windows.h>
#include <stdio.h>
#include <string.h>

static SERVICE_STATUS_HANDLE handle;
static SERVICE_STATUS status = { .dwServiceType = SERVICE_WIN32_OWN_PROCESS };
static HANDLE stop;
static char name[256];

static DWORD setting(const char *value)
{
    char key[400];
    DWORD data = 0, size = sizeof data;
    snprintf(key, sizeof key, "SOFTWARE\\VmbackupLab\\Services\\%s", name);
    RegGetValueA(HKEY_LOCAL_MACHINE, key, value, RRF_RT_REG_DWORD, NULL, &data, &size);
    return data;
}

static void say(DWORD state, DWORD wait)
{
    status.dwCurrentState = state;
    status.dwControlsAccepted = state == SERVICE_RUNNING ? SERVICE_ACCEPT_STOP | SERVICE_ACCEPT_SHUTDOWN : 0;
    status.dwWaitHint = wait;
    SetServiceStatus(handle, &status);
}

static DWORD WINAPI control(DWORD code, DWORD type, void *data, void *context)
{
    (void)type; (void)data; (void)context;
    if (code == SERVICE_CONTROL_STOP || code == SERVICE_CONTROL_SHUTDOWN) {
        say(SERVICE_STOP_PENDING, 300000);
        if (!setting("StopHangs") || code == SERVICE_CONTROL_SHUTDOWN) SetEvent(stop);
        return NO_ERROR;
    }
    return code == SERVICE_CONTROL_INTERROGATE ? NO_ERROR : ERROR_CALL_NOT_IMPLEMENTED;
}

static void now(char *text, size_t size)
{
    SYSTEMTIME t;
    GetSystemTime(&t);
    snprintf(text, size, "%04d-%02d-%02dT%02d:%02d:%02dZ", t.wYear, t.wMonth, t.wDay, t.wHour, t.wMinute, t.wSecond);
}

static void set_text(const char *key, const char *value, const char *data)
{
    HKEY opened;
    if (!RegCreateKeyExA(HKEY_LOCAL_MACHINE, key, 0, NULL, 0, KEY_SET_VALUE | KEY_WOW64_64KEY, NULL, &opened, NULL)) {
        RegSetValueExA(opened, value, 0, REG_SZ, (const BYTE *)data, (DWORD)strlen(data) + 1);
        RegCloseKey(opened);
    }
}

static void log_line(const char *text)
{
    char at[40];
    FILE *log;
    CreateDirectoryA("C:\\WindowsAzure", NULL);
    CreateDirectoryA("C:\\WindowsAzure\\Logs", NULL);
    log = fopen("C:\\WindowsAzure\\Logs\\WaAppAgent.log", "ab");
    if (!log) return;
    now(at, sizeof at);
    fprintf(log, "[%08lu] %s [INFO]  %s\r\n", GetCurrentThreadId(), at, text);
    fclose(log);
}

/* The aggregate status is the lab's template with the time put in for @NOW@. */
static void write_aggregate(void)
{
    static char text[65536], out[70000];
    char at[40], *mark, *from = text;
    size_t length = 0;
    FILE *file = fopen("C:\\VmbackupLab\\aggregatestatus.json", "rb");
    if (!file) return;
    text[fread(text, 1, sizeof text - 1, file)] = 0;
    fclose(file);
    now(at, sizeof at);
    while ((mark = strstr(from, "@NOW@")) && length < sizeof text) {
        memcpy(out + length, from, mark - from);
        length += mark - from;
        length += sprintf(out + length, "%s", at);
        from = mark + 5;
    }
    strcpy(out + length, from);
    length += strlen(from);
    if ((file = fopen("C:\\WindowsAzure\\Logs\\AggregateStatus\\aggregatestatus.json.new", "wb"))) {
        fwrite(out, 1, length + 3, file); /* the real file ends with NUL bytes now and then */
        fclose(file);
        MoveFileExA("C:\\WindowsAzure\\Logs\\AggregateStatus\\aggregatestatus.json.new",
                    "C:\\WindowsAzure\\Logs\\AggregateStatus\\aggregatestatus.json", MOVEFILE_REPLACE_EXISTING);
    }
}

/* What the installer brings is unpacked into a folder of its own, and becomes the service. */
static void install_agent(void)
{
    static const char *from = "C:\\WindowsAzure\\Packages\\GuestAgent\\WindowsAzureGuestAgent.exe";
    static const char *folder = "C:\\WindowsAzure\\GuestAgent_2.7.41491.1210_2026-02-01_101500";
    char to[MAX_PATH];
    SC_HANDLE manager, made;
    if (_stricmp(name, "RdAgent") || setting("NeverInstalls") || GetFileAttributesA(from) == INVALID_FILE_ATTRIBUTES) return;
    snprintf(to, sizeof to, "%s\\WindowsAzureGuestAgent.exe", folder);
    if (!(manager = OpenSCManagerA(NULL, NULL, SC_MANAGER_ALL_ACCESS))) return;
    if ((made = OpenServiceA(manager, "WindowsAzureGuestAgent", SERVICE_QUERY_STATUS))) {
        CloseServiceHandle(made);
        CloseServiceHandle(manager);
        return;
    }
    CreateDirectoryA(folder, NULL);
    CopyFileA(from, to, FALSE);
    made = CreateServiceA(manager, "WindowsAzureGuestAgent", "Windows Azure Guest Agent", SERVICE_ALL_ACCESS, SERVICE_WIN32_OWN_PROCESS,
                          SERVICE_AUTO_START, SERVICE_ERROR_NORMAL, to, NULL, NULL, NULL, NULL, NULL);
    if (made) {
        set_text("SOFTWARE\\Microsoft\\Virtual Machine\\Guest", "GuestAgentVersion", "2.7.41491.1210");
        StartServiceA(made, 0, NULL);
        CloseServiceHandle(made);
    }
    CloseServiceHandle(manager);
}

static void sign_of_life(int first)
{
    char at[40];
    if (setting("Silent")) return;
    now(at, sizeof at);
    if (!_stricmp(name, "WindowsAzureGuestAgent")) {
        if (first) {
            set_text("SOFTWARE\\Microsoft\\Virtual Machine\\Guest", "GuestAgentStartTime", at);
            log_line("GuestAgent started");
        }
        set_text("SOFTWARE\\Microsoft\\GuestAgent", "HeartbeatLastStatusUpdateTime", at);
        write_aggregate();
    } else if (!_stricmp(name, "RdAgent") && first)
        log_line("Reporting heartbeat status: Ready");
}

static void WINAPI service(DWORD argc, char **argv)
{
    int looks = 0;
    snprintf(name, sizeof name, "%s", argc ? argv[0] : "");
    handle = RegisterServiceCtrlHandlerExA(name, control, NULL);
    stop = CreateEventA(NULL, TRUE, FALSE, NULL);
    if (setting("StartFails")) {
        status.dwWin32ExitCode = ERROR_PROCESS_ABORTED;
        say(SERVICE_STOPPED, 0);
        return;
    }
    if (setting("HealsWriters")) CopyFileA("C:\\VmbackupLab\\vssadmin\\stable writers.txt", "C:\\VmbackupLab\\vssadmin\\list writers.txt", FALSE);
    say(SERVICE_RUNNING, 0);
    sign_of_life(1);
    while (WaitForSingleObject(stop, 5000) == WAIT_TIMEOUT) {
        if (++looks == 2) install_agent();
        sign_of_life(0);
    }
    say(SERVICE_STOPPED, 0);
    Sleep(300); /* a process that ends in its handler loses the message to the service manager under Wine */
}

int main(void)
{
    SERVICE_TABLE_ENTRYA table[] = { { (char *)"", service }, { NULL, NULL } };
    return !StartServiceCtrlDispatcherA(table);
}
