// SPDX-License-Identifier: GPL-3.0-or-later
// Copyright: vmbackup.azure contributors
using System.Reflection;

// Hands the command line to PowerShell's own console host (the overload that takes the arguments and their number).
internal static class Program
{
    private static int Main(string[] args)
    {
        MethodInfo start = Assembly.Load("Microsoft.PowerShell.ConsoleHost")
            .GetType("Microsoft.PowerShell.UnmanagedPSEntry", true)
            .GetMethod("Start", new[] { typeof(string[]), typeof(int) });
        return (int)start.Invoke(null, new object[] { args, args.Length });
    }
}
