/* SPDX-License-Identifier: GPL-3.0-or-later
   Copyright: vmbackup.azure contributors */
/* powershell.exe: start PowerShell's own console host from the folder beside this program.
   The .NET runtime is loaded through its C interface (coreclr_initialize), so nothing has to be compiled for .NET. */
#include <windows.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>

typedef int (__stdcall *initialize_fn)(const char *exe, const char *domain, int n, const char **keys, const char **values, void **host, unsigned *id);
typedef int (__stdcall *execute_fn)(void *host, unsigned id, int argc, const char **argv, const char *assembly, unsigned *code);

static char *utf8(const wchar_t *w)
{
    int n = WideCharToMultiByte(CP_UTF8, 0, w, -1, NULL, 0, NULL, NULL);
    char *s = malloc(n);
    WideCharToMultiByte(CP_UTF8, 0, w, -1, s, n, NULL, NULL);
    return s;
}

int wmain(int argc, wchar_t **argv)
{
    wchar_t exe[1024], home[1024], path[1200];
    GetModuleFileNameW(NULL, exe, 1024);
    wcscpy(home, exe);
    *wcsrchr(home, L'\\') = 0;

    size_t cap = 1 << 20, len = 0;
    char *tpa = malloc(cap);
    tpa[0] = 0;
    swprintf(path, 1200, L"%ls\\*.dll", home);
    WIN32_FIND_DATAW found;
    HANDLE h = FindFirstFileW(path, &found);
    if (h == INVALID_HANDLE_VALUE) { fwprintf(stderr, L"no assemblies in %ls\n", home); return 70; }
    do {
        swprintf(path, 1200, L"%ls\\%ls;", home, found.cFileName);
        char *s = utf8(path);
        size_t n = strlen(s);
        if (len + n + 1 < cap) { memcpy(tpa + len, s, n + 1); len += n; }
        free(s);
    } while (FindNextFileW(h, &found));
    FindClose(h);

    swprintf(path, 1200, L"%ls\\coreclr.dll", home);
    HMODULE clr = LoadLibraryExW(path, NULL, LOAD_WITH_ALTERED_SEARCH_PATH);
    if (!clr) { fwprintf(stderr, L"cannot load %ls: error %lu\n", path, GetLastError()); return 70; }
    initialize_fn initialize = (initialize_fn)(void *)GetProcAddress(clr, "coreclr_initialize");
    execute_fn execute = (execute_fn)(void *)GetProcAddress(clr, "coreclr_execute_assembly");
    char *dir = utf8(home);
    size_t dl = strlen(dir);
    char *base = malloc(dl + 2);
    memcpy(base, dir, dl); strcpy(base + dl, "\\");
    const char *keys[] = { "TRUSTED_PLATFORM_ASSEMBLIES", "APP_PATHS", "NATIVE_DLL_SEARCH_DIRECTORIES", "APP_CONTEXT_BASE_DIRECTORY", "System.Globalization.Invariant" };
    const char *values[] = { tpa, base, base, base, "true" };
    void *host; unsigned id; int rc;
    if ((rc = initialize(utf8(exe), "pwsh", 5, keys, values, &host, &id)) < 0) { fwprintf(stderr, L"coreclr_initialize: 0x%08x\n", rc); return 70; }
    const char **args = calloc(argc, sizeof *args);
    for (int i = 1; i < argc; i++) args[i - 1] = utf8(argv[i]);
    swprintf(path, 1200, L"%ls\\powershell.entry.dll", home);
    unsigned code = 70;
    if ((rc = execute(host, id, argc - 1, args, utf8(path), &code)) < 0) { fwprintf(stderr, L"coreclr_execute_assembly: 0x%08x\n", rc); return 70; }
    return (int)code;
}
