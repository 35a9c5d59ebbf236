/* SPDX-License-Identifier: GPL-3.0-or-later
   Copyright: vmbackup.azure contributors

   Stand-in for schtasks.exe, since Wine's takes a task and loses its triggers and actions. /Create /TN NAME /XML FILE [/F] keeps the XML below
   C:\windows\system32\Tasks, /Query /TN NAME and /Delete /TN NAME /F look there. As on Windows, a file that says UTF-16 has to be UTF-16, a task
   needs an action, and what does not exist ends with 1. Nothing is ever run: the lab's tests do that. */
#include <windows.h>
#include <shellapi.h>
#include <stdio.h>
#include <stdlib.h>
#include <wchar.h>

static int fail(const wchar_t *text)
{
    fwprintf(stderr, L"ERROR: %ls\n", text);
    return 1;
}

int main(void)
{
    int count;
    wchar_t **words = CommandLineToArgvW(GetCommandLineW(), &count);
    const wchar_t *name = NULL, *xml = NULL, *verb = count > 1 ? words[1] : L"";
    int force = 0;
    wchar_t path[600];
    for (int at = 2; at < count; at++) {
        if (!_wcsicmp(words[at], L"/TN") && at + 1 < count) name = words[++at];
        else if (!_wcsicmp(words[at], L"/XML") && at + 1 < count) xml = words[++at];
        else if (!_wcsicmp(words[at], L"/F")) force = 1;
        else return fail(L"Invalid argument/option.");
    }
    if (!name || wcslen(name) > 230 || wcspbrk(name, L"/:*?\"<>|")) return fail(L"The filename, directory name, or volume label syntax is incorrect.");
    CreateDirectoryW(L"C:\\windows\\system32\\Tasks", NULL);
    swprintf(path, 600, L"C:\\windows\\system32\\Tasks\\%ls", name);
    int there = GetFileAttributesW(path) != INVALID_FILE_ATTRIBUTES;
    if (!_wcsicmp(verb, L"/Create")) {
        FILE *file = xml ? _wfopen(xml, L"rb") : NULL;
        static wchar_t text[32768];
        if (!file) return fail(L"The system cannot find the file specified.");
        size_t length = fread(text, 2, 32767, file);
        fclose(file);
        text[length] = 0;
        if (text[0] != 0xfeff || !wcsstr(text, L"<Exec><Command>") || !wcsstr(text, L"</Task>")) return fail(L"The task XML is malformed.");
        if (there && !force) return fail(L"Cannot create a file when that file already exists.");
        return CopyFileW(xml, path, FALSE) ? 0 : fail(L"Access is denied.");
    }
    if (!there) return fail(L"The system cannot find the file specified.");
    if (!_wcsicmp(verb, L"/Query")) return 0;
    if (_wcsicmp(verb, L"/Delete") || !force) return fail(L"Invalid argument/option.");
    return DeleteFileW(path) ? 0 : fail(L"Access is denied.");
}
