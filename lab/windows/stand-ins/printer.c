/* SPDX-License-Identifier: GPL-3.0-or-later
   Copyright: vmbackup.azure contributors

   Stand-in for vssadmin.exe and netsh.exe, which Wine does not have: prints C:\VmbackupLab\<program>\<arguments joined by a blank>.txt,
   byte for byte, since the real ones write in the OEM code page and the system's language. A file of the same name with .delay_ms instead
   makes it wait first. Without a text: exit code 1. */
#include <windows.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv)
{
    char path[600], buffer[8192], program[64];
    const char *base = strrchr(argv[0], '\\');
    snprintf(program, sizeof program, "%s", base ? base + 1 : argv[0]);
    if (strrchr(program, '.')) *strrchr(program, '.') = 0;
    snprintf(path, sizeof path, "C:\\VmbackupLab\\%s\\", program);
    for (int i = 1; i < argc; i++) {
        if (strlen(path) + strlen(argv[i]) + 12 > sizeof path) return 1;
        if (i > 1) strcat(path, " ");
        strcat(path, argv[i]);
    }
    size_t end = strlen(path);
    strcpy(path + end, ".delay_ms");
    FILE *file = fopen(path, "rb");
    if (file) {
        if (fgets(buffer, sizeof buffer, file)) Sleep(strtoul(buffer, NULL, 10));
        fclose(file);
    }
    strcpy(path + end, ".txt");
    if (!(file = fopen(path, "rb"))) {
        fprintf(stderr, "Error: Invalid command.\r\n");
        return 1;
    }
    size_t count;
    HANDLE out = GetStdHandle(STD_OUTPUT_HANDLE);
    DWORD written;
    while ((count = fread(buffer, 1, sizeof buffer, file))) WriteFile(out, buffer, (DWORD)count, &written, NULL);
    fclose(file);
    return 0;
}
