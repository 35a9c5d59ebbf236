// SPDX-License-Identifier: GPL-3.0-or-later
// Copyright: vmbackup.azure contributors
using System.IO;
using System.Reflection;

// Hands the command line to PowerShell's own console host (the overload that takes the arguments and their number), with compiler.cs before it.
internal static class Program
{
    private static int Main(string[] args)
    {
        string kept = Path.Combine(Path.GetDirectoryName(typeof(Program).Assembly.Location), "powershell.compiler.dll");
        if (File.Exists(kept))
            Assembly.LoadFrom(kept).GetType("VmbackupLab.Compilation", true).GetMethod("Register").Invoke(null, null);
        MethodInfo start = Assembly.Load("Microsoft.PowerShell.ConsoleHost")
            .GetType("Microsoft.PowerShell.UnmanagedPSEntry", true)
            .GetMethod("Start", new[] { typeof(string[]), typeof(int) });
        return (int)start.Invoke(null, new object[] { args, args.Length });
    }
}
