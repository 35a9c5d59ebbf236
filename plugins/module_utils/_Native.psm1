# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

# Leaf: Win32 functions without a compiler. The methods are emitted, not compiled.
Set-StrictMode -Version 2.0

$script:Native = $null

function Get-Native {
    <#
    .SYNOPSIS
    The type whose static methods are the Win32 functions that observers and writers call.
    #>
    if ($null -ne $script:Native) { return $script:Native }
    $name = New-Object System.Reflection.AssemblyName 'VmbackupNative'
    $assembly = [System.Reflection.Emit.AssemblyBuilder]::DefineDynamicAssembly($name, [System.Reflection.Emit.AssemblyBuilderAccess]::Run)
    $type = $assembly.DefineDynamicModule('VmbackupNative').DefineType('Vmbackup.Native', 'Public, Class, Sealed, Abstract')
    $pointer = [IntPtr]
    $functions = @(
        @('kernel32.dll', 'GlobalMemoryStatusEx', [int], @($pointer)),
        @('kernel32.dll', 'GetSystemTimes', [int], @($pointer, $pointer, $pointer)),
        @('kernel32.dll', 'GetTickCount64', [uint64], @()),
        @('kernel32.dll', 'CreateProcessW', [int], @([string], $pointer, $pointer, $pointer, [int], [uint32], $pointer, [string], $pointer, $pointer)),
        @('iphlpapi.dll', 'GetIpForwardTable2', [int], @([uint16], $pointer.MakeByRefType())),
        @('iphlpapi.dll', 'FreeMibTable', [void], @($pointer)),
        @('iphlpapi.dll', 'ResolveIpNetEntry2', [int], @($pointer, $pointer)),
        @('iphlpapi.dll', 'SendARP', [int], @([uint32], [uint32], $pointer, [uint32].MakeByRefType())),
        @('advapi32.dll', 'OpenSCManagerW', $pointer, @([string], [string], [uint32])),
        @('advapi32.dll', 'OpenServiceW', $pointer, @($pointer, [string], [uint32])),
        @('advapi32.dll', 'QueryServiceStatusEx', [int], @($pointer, [int], $pointer, [uint32], [uint32].MakeByRefType())),
        @('advapi32.dll', 'ChangeServiceConfigW', [int],
            @($pointer, [uint32], [uint32], [uint32], $pointer, $pointer, $pointer, $pointer, $pointer, $pointer, $pointer)),
        @('advapi32.dll', 'ChangeServiceConfig2W', [int], @($pointer, [uint32], $pointer)),
        @('advapi32.dll', 'CloseServiceHandle', [int], @($pointer)),
        @('advapi32.dll', 'SetFileSecurityW', [int], @([string], [uint32], $pointer))
    )
    foreach ($function in $functions) {
        $method = $type.DefinePInvokeMethod($function[1], $function[0], [System.Reflection.MethodAttributes]'Public, Static, PinvokeImpl',
            [System.Reflection.CallingConventions]::Standard, $function[2], [type[]]$function[3],
            [System.Runtime.InteropServices.CallingConvention]::Winapi, [System.Runtime.InteropServices.CharSet]::Unicode)
        $method.SetImplementationFlags([System.Reflection.MethodImplAttributes]::PreserveSig)
    }
    $script:Native = $type.CreateType()
    return $script:Native
}

Export-ModuleMember -Function Get-Native
