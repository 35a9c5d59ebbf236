/* SPDX-License-Identifier: GPL-3.0-or-later
   Copyright: vmbackup.azure contributors */
/* launch.exe PROGRAM [ARGS...]: run a console program with a hidden console and the caller's standard handles; exit with its code.
   PowerShell's host exits at once when it has no console, as it would under Wine without a terminal. */
#include <windows.h>
#include <wchar.h>

int main(void)
{
    const wchar_t *line = GetCommandLineW();
    int quoted = 0;
    for (; *line && (quoted || (*line != L' ' && *line != L'\t')); line++)
        if (*line == L'"') quoted = !quoted;
    while (*line == L' ' || *line == L'\t') line++;
    if (!*line) return 64;

    wchar_t *command = _wcsdup(line);
    STARTUPINFOW si = { .cb = sizeof si, .dwFlags = STARTF_USESTDHANDLES };
    PROCESS_INFORMATION pi;
    DWORD code = 1, ids[3] = { STD_INPUT_HANDLE, STD_OUTPUT_HANDLE, STD_ERROR_HANDLE };
    HANDLE *slot[3] = { &si.hStdInput, &si.hStdOutput, &si.hStdError };
    for (int i = 0; i < 3; i++) {
        *slot[i] = GetStdHandle(ids[i]);
        SetHandleInformation(*slot[i], HANDLE_FLAG_INHERIT, HANDLE_FLAG_INHERIT);
    }
    if (!CreateProcessW(NULL, command, NULL, NULL, TRUE, CREATE_NO_WINDOW, NULL, NULL, &si, &pi)) {
        fwprintf(stderr, L"cannot start %ls: error %lu\n", command, GetLastError());
        return 125;
    }
    WaitForSingleObject(pi.hProcess, INFINITE);
    GetExitCodeProcess(pi.hProcess, &code);
    return (int)code;
}
