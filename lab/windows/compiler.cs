// SPDX-License-Identifier: GPL-3.0-or-later
// Copyright: vmbackup.azure contributors
// Keeps what Ansible's Add-CSharpType compiled: Microsoft's compiler is not precompiled in the gem, so that each module call spends most of its
// time on compiling the compiler. The same sources, references and options bring the same assembly; anything else goes to Microsoft's compiler.
using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Management.Automation;
using System.Security.Cryptography;
using System.Text;
using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.CSharp;
using Microsoft.CodeAnalysis.Emit;

namespace VmbackupLab
{
    public sealed class Source
    {
        public string Text;
        public CSharpParseOptions Options;
        public static Source ParseText(string text, CSharpParseOptions options) { return new Source { Text = text, Options = options }; }
    }

    public sealed class Reference
    {
        public string Path;
        public static Reference CreateFromFile(string path) { return new Reference { Path = path }; }
    }

    public sealed class Kept
    {
        public bool Success { get { return true; } }
        public object[] Diagnostics { get { return new object[0]; } }
    }

    public sealed class Compilation
    {
        const string Folder = @"C:\windows\temp\vmbackup-lab-compiled";
        static readonly HashSet<string> Given = new HashSet<string>();
        string name;
        List<Source> sources;
        List<Reference> references;
        CSharpCompilationOptions options;

        public static void Register()
        {
            var add = typeof(PSObject).Assembly.GetType("System.Management.Automation.TypeAccelerators", true).GetMethod("Add");
            Action<string, Type> set = (known, type) => add.Invoke(null, new object[] { known, type });
            set("Microsoft.CodeAnalysis.SyntaxTree", typeof(Source));
            set("Microsoft.CodeAnalysis.CSharp.CSharpSyntaxTree", typeof(Source));
            set("Microsoft.CodeAnalysis.MetadataReference", typeof(Reference));
            set("Microsoft.CodeAnalysis.CompilationReference", typeof(Reference));
            set("Microsoft.CodeAnalysis.CSharp.CSharpCompilation", typeof(Compilation));
        }

        public static Compilation Create(string name, IEnumerable<Source> sources, IEnumerable<Reference> references, CSharpCompilationOptions options)
        {
            return new Compilation { name = name, sources = sources.ToList(), references = references.ToList(), options = options };
        }

        public object Emit(Stream code, Stream symbols) { return Emit(code, symbols, null, null, null, null); }

        public object Emit(Stream code, Stream symbols, Stream documentation, Stream resources, object manifest, EmitOptions how)
        {
            string key = Key(symbols != null, how), file = Path.Combine(Folder, key);
            bool first = Given.Add(key); // a process takes an assembly of one name only once
            if (first && File.Exists(file + ".dll"))
            {
                Copy(file + ".dll", code);
                if (symbols != null) Copy(file + ".pdb", symbols);
                return new Kept();
            }
            EmitResult result = CSharpCompilation.Create(
                name,
                sources.Select(one => CSharpSyntaxTree.ParseText(one.Text, one.Options)),
                references.Select(one => MetadataReference.CreateFromFile(one.Path)),
                options).Emit(code, symbols, options: how);
            if (result.Success && first && Directory.Exists(Folder))
            {
                if (symbols != null) Keep(symbols, file + ".pdb");
                Keep(code, file + ".dll");
            }
            return result;
        }

        string Key(bool symbols, EmitOptions how)
        {
            var all = new StringBuilder();
            foreach (Source one in sources) all.Append(string.Join(",", one.Options.PreprocessorSymbolNames)).Append('\n').Append(one.Text).Append('\0');
            foreach (string path in references.Select(one => one.Path).Distinct().OrderBy(one => one, StringComparer.Ordinal)) all.Append(path).Append('\n');
            all.Append(options.OptimizationLevel).Append(options.AllowUnsafe).Append(options.GeneralDiagnosticOption).Append(options.OutputKind);
            foreach (var one in options.SpecificDiagnosticOptions.OrderBy(one => one.Key, StringComparer.Ordinal)) all.Append(one.Key).Append(one.Value);
            all.Append(symbols).Append(how == null ? "" : how.DebugInformationFormat.ToString());
            return Convert.ToHexString(SHA256.HashData(Encoding.UTF8.GetBytes(all.ToString()))).ToLowerInvariant();
        }

        static void Copy(string file, Stream to) { byte[] all = File.ReadAllBytes(file); to.Write(all, 0, all.Length); }

        static void Keep(Stream from, string file)
        {
            string beside = file + "." + Guid.NewGuid().ToString("N");
            using (FileStream to = File.Create(beside)) { from.Position = 0; from.CopyTo(to); }
            try { File.Move(beside, file, true); } catch (IOException) { File.Delete(beside); } // another guest was first
        }
    }
}
