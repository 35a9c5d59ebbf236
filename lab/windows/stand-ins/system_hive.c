/* SPDX-License-Identifier: GPL-3.0-or-later
   Copyright: vmbackup.azure contributors

   HKEY_USERS\S-1-5-18 is the same hive as HKEY_USERS\.DEFAULT on Windows; Wine has only the second. This makes the first a link to it, until
   Wine ends. */
#include <windows.h>
#include <stdio.h>

int main(void)
{
    static const wchar_t target[] = L"\\Registry\\User\\.Default";
    HKEY key;
    LONG error = RegCreateKeyExW(HKEY_USERS, L"S-1-5-18", 0, NULL, REG_OPTION_VOLATILE | REG_OPTION_CREATE_LINK, KEY_ALL_ACCESS, NULL, &key, NULL);
    if (!error) error = RegSetValueExW(key, L"SymbolicLinkValue", 0, REG_LINK, (const BYTE *)target, sizeof target - sizeof *target);
    if (error) fprintf(stderr, "system_hive: error %ld\n", error);
    return !!error;
}
