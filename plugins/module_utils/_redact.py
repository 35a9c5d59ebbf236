# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: vmbackup.azure contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Take secrets out of text before it leaves the machine that it was read on. One table for every system.

Two things tell a secret: the name that it is given (``NAMES``), and its own shape. Rather a word too many is masked than one too few.
Every expression here is bounded or moves forward only, and long lines are cut before: the time is linear in the length of the text.
"""

import re
from functools import lru_cache

MASK = "[redacted]"
LINE_LIMIT = 4096  # characters of a line that are looked at; no line of a log or configuration that means anything is longer

# Names of secrets, in lower case without separators. A name is one when it ends in one of these: DB_PASSWORD, clientSecret, storageAccountKey.
NAMES = (
    "connectionstring|credential|credentials|key|pass|passcode|passphrase|passwd|passwds|password|passwords|pwd|regcode|sastoken|secret|secrets"
    "|signature|token|tokens"
)
# Names that are one only as a whole: the protected parts of Azure's files among them.
WHOLE_NAMES = (
    "auth|authorization|blobsas|commandtoexecute|containersas|cookie|encodedsignature|logsbloburi|objectstr|protectedsettings"
    "|protectedsettingscertthumbprint|proxyauthorization|pw|sas|sasuri|sasurl|setcookie|sig|snapshoturi|statusbloburi|statusuploadblob|xauth"
)
# Names that only look like one.
HARMLESS = (
    "bypass|cachekey|compass|encompass|foreignkey|gpgkey|hotkey|inkey|key|monitorkey|monkey|onpass|parentkey|partitionkey|publickey|registrykey|rowkey"
    "|sortkey|subkey|surpass|turkey"
)
# What may follow a name without changing what it is: secretValue, PASSWORD_OLD, tokens2.
_TAIL = re.compile(r"(?:value|text|plaintext|plain|hash|base64|b64|old|new|prod|production|dev|test|string|data|\d{1,4})\Z")
_ENDS = re.compile("(?:" + NAMES + r")\Z")
_WHOLE = re.compile(r"(?:\A|26|3f|u0026|amp|\A[nrt])(?:" + WHOLE_NAMES + r")\Z")
# Part of every name above: most names of a text are none of them, and that is to be known fast.
_CORE = re.compile(r"(?i)auth|blob|command|connection|cookie|credential|key|objectstr|pass|protected|pw|regcode|sas|secret|sig|token|uri")
_HARMLESS = re.compile(r"(?:\A(?:" + HARMLESS + r")|publickey)\Z")
# Names whose value is everything up to the end of the line or quotes: a scheme and its credentials, several cookies.
_REST = ("authorization", "proxyauthorization", "cookie", "setcookie")
_KEY_OF = re.compile(
    r"(?i)(?:access|account|api|private|shared|secret|subscription|storage|workspace|signing|encryption|primary|secondary)[ _-]\Z"
)
# A password may be any word; a key or token is none of these.
_NOTHING = re.compile(r"(?i)(?:true|false|yes|no|y|n|on|off|null|none|\*+)?\Z")
_NUMBER = re.compile(r"\d{1,5}\Z")

_QUOTE = r"(?:\\{0,16}[\"']|&quot;|&#34;|%22|%27|\\{0,4}u0022)"
_SEPARATOR = r"(?:=>|:=|[:=]|%3a|%3d|%253a|%253d|\\{0,4}u003d|\\{0,4}u003a)"
# The look-behind lets a run of word characters be tried once only, from its start.
_NAMED = re.compile(r"(?i)(?<![\w.-])([\w.-]+)(?:" + _QUOTE + r")?[ \t]{0,8}" + _SEPARATOR + r"(\s{0,16})")
_OPTION = re.compile(r"(?<![\w./-])--?([A-Za-z][\w-]*)([ \t]{1,8})(?=[^\s-])")
# A name and its value as two fields: {"name": "DB_PASSWORD", "value": "..."}, <add key="ClientSecret" value="..."/>.
_PAIR = re.compile(
    r"(?i)(?<!\w)(?:name|key)" + _QUOTE + r"?\s{0,4}[:=]\s{0,4}" + _QUOTE + r"([\w.-]+)" + _QUOTE + r"[,\s]{1,8}" + _QUOTE + "?value" + _QUOTE
    + r"?\s{0,4}[:=](\s{0,4})"
)  # fmt: skip
_ELEMENT = re.compile(r"<(?:[\w-]{1,30}:)?([\w.-]+)(?:\s[^<>]{0,200})?>(?=\s{0,16}[^<\s])")
_OPENING = re.compile("(?i)" + _QUOTE)
_AFTER_NAME = re.compile("(?i)" + _QUOTE + r"[ \t]{0,8}[:=]")
_BARE = re.compile(r"[^\s\"'<>]*")
# A separator that ends an unquoted value, unless what follows is the rest of the value.
_END_OF_BARE = re.compile(
    r"(?i)(?:[,;&}\])]|%26|%2c|\\{1,16}\Z)(?=[\s,;&}\])]|\Z|[\w.-]{1,64}(?:\\{0,4}[\"'])?\s{0,2}[:=]|[\w.-]{1,64}%3d)"
)
_END_OF_REST = re.compile("[\n\"']")
_BRACKETS = re.compile(r"[{}\[\]]")
_BLOCK = re.compile(r"[|>][+-]?[ \t]{0,8}(?=\n)")
_INDENTED = re.compile(r"(?:\n[ \t]+[^\n]*)+")

# Credentials in an address, plain or percent-encoded. They may hold any separator, so they end at the last at sign of the word.
_WORD = re.compile(r"(?i)(?<![^\s\"'<>])[^\s\"'<>]*?(?://|\\/\\/|%2f%2f|%252f%252f)[^\s\"'<>]*")
_AUTHORITY = re.compile(r"(?i)(?P<plain>//|\\/\\/)|%2f%2f|%252f%252f")
_AUTHORITY_END = re.compile(r"[/?#]")
_ENCODED_END = re.compile(r"(?i)%2f|%252f|[/?#]")
_AT = re.compile(r"(?i)%40|%2540|@")
_COLON = re.compile(r"(?i)%3a|%253a|:")

# A signature in any spelling that was seen in Azure's files: plain, XML-escaped, JSON-escaped, percent-encoded once or twice.
_SIGNATURE = re.compile(r"(?i)(?:^|[?&;]|%3f|%26|%253f|%2526|u0026|amp;|\s)sig(?:=|%3d|%253d|\\?u003d)")
_URL = re.compile(r"(?i)\bhttps?(?::|%3a|%253a)(?:[\\]?/[\\]?/|%2f%2f|%252f%252f)[^\s\"'<>]+")
_QUERY = re.compile(r"(?i)\?|%3f|%253f")
_BARE_SIGNATURE = re.compile(r"(?i)\bsig(=|%3d|%253d|\\?u003d)[^&\s\"'<>;,\\]+")
# Shapes: a login of a netrc file, a hash of a password, tokens of code hosts, a token behind its scheme, a JSON web token,
# a storage account's key, a user with a password behind an option, a password in SQL.
_SHAPES = (
    (re.compile(r"(?i)\b(login[ \t]{1,8}\S{1,128}[ \t]{1,8}password[ \t]{1,8}|sshpass[ \t]{1,8}-p[ \t]{0,8}|pro[ \t]{1,8}attach[ \t]{1,8}(?!-))\S+"),
     r"\1" + MASK),
    (re.compile(r"(?<![\w$])\$(?:1|5|6|7|y|gy|2[abxy])\$[\w./$=,+-]{8,}"), MASK),
    (re.compile(r"(?<![\w-])(?:gh[pousr]_\w{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}|xox[abprs]-[\w-]{10,})"), MASK),
    (re.compile(r"(?i)\b((?:bearer[ \t]{1,8}){1,3}[\"']?)(?!(?:tokens?|auth\w{0,16}|scheme|realm|error|is|was|or|and|for)\b)"
                r"(?![-]|[^\s\"',;<>]*[\"'][ \t]{0,8}[:=])[^\s\"',;<>]+"), r"\1" + MASK),
    (re.compile(r"(?i)\b((?:basic|negotiate|ntlm|sharedkey(?:lite)?|sharedaccesssignature|digest)[ \t]{1,8})(?=[^\s\"'<>]{0,64}[0-9=+/])[^\s\"'<>]{6,}"),
     r"\1" + MASK),
    (re.compile(r"(?<![\w-])eyJ[\w-]{4,}\.[\w-]{4,}(?:\.[\w-]*){0,3}"), MASK),
    (re.compile(r"(?<![A-Za-z0-9+/])[A-Za-z0-9+/]{86}=="), MASK),
    (re.compile(r"(?<![\w-])((?:-[uU]|--(?:proxy-)?user(?:name)?)(?:[ \t]{1,8}|=)[\"']?[^\s:\"']{1,128}:)[^\s\"']+"), r"\1" + MASK),
    (re.compile(r"(?i)(proxy(?:[._-]?(?:host|server|url|uri|address))?[\"']?[ \t]{0,4}[=:][ \t]{0,4}[\"']?)[^\s\"'@/]{1,128}:[^\s\"']{1,512}@"),
     r"\1" + MASK + "@"),
    # Credentials without a scheme, told from an address of mail by the port behind the host.
    (re.compile(r"(?<![\w/@:.%+-])[\w.\\+%-]{1,64}:[^\s\"'@/]{1,128}@(?=[\w.-]{1,253}:\d{2,5}(?![\w.]))"), MASK + "@"),
    (re.compile(r"(?i)\b(identified[ \t]{1,8}by[ \t]{1,8})(?:'[^'\n]*'?|\"[^\"\n]*\"?|\S+)"), r"\1" + MASK),
)  # fmt: skip
# What each shape cannot do without, in lower case: looked for first, since most texts hold none of it.
_NEEDED = (
    ("login", "sshpass", "attach"), ("$",), ("gh", "glpat-", "xox"), ("bearer",), ("basic", "negotiate", "ntlm", "sharedkey", "sharedaccess", "digest"),
    ("eyj",), ("==",), ("-u",), ("proxy",), ("@",), ("identified",),
)  # fmt: skip
_AT_SIGNS = ("@", "%40", "%2540")
# What begins an address in a list of proxies, and an address without credentials.
_SCHEME = r"(?:[a-z][a-z0-9+.-]{0,30}:)?//"
_START = re.compile(r"(?i)(?:^|(?<=[;,\s]))(?:(?:https?|ftp|gopher|socks\w?)=(?:" + _SCHEME + ")?|" + _SCHEME + ")")
_PLAIN = re.compile(r"(?i)(?:[\w.*<>-]*|\[[0-9a-f:.%*]+\])(?::\d*)?/?$")
_PEM = re.compile(r"-----BEGIN [A-Z0-9 ]{1,60}-----.*?(?:-----END [A-Z0-9 ]{1,60}-----|\Z)", re.S)


@lru_cache(maxsize=4096)
def secret_name(name):
    """Say whether what is stored under a name is a secret, by the name alone: ``AZURE_CLIENT_SECRET``, ``adminPassword``, ``sas-token``."""
    plain = "".join(character for character in name[-80:].lower() if character.isalnum())
    for _part in range(3):
        if _HARMLESS.search(plain):
            return False
        if _WHOLE.search(plain):
            return True
        ends = _ENDS.search(plain)
        if ends:
            # "pass" alone or as a word of its own; "bypass" and "compass" are words.
            return ends.group(0) != "pass" or plain == "pass" or bool(re.search(r"(?:[a-z0-9]Pass|[_.-][Pp]ass|PASS)\W{0,4}\Z", name[-80:]))
        shorter = _TAIL.sub("", plain)
        if shorter == plain:
            return False
        plain = shorter
    return False


def _named(text, found):
    """Say whether the name that was found is a secret's."""
    name = found.group(1)
    if not _CORE.search(name, max(0, len(name) - 80)):
        return False
    if secret_name(name):
        return True
    return name.lower() == "key" and bool(_KEY_OF.search(text[max(0, found.start() - 14) : found.start()]))


@lru_cache(maxsize=4096)
def _is_rest(name):
    return "".join(character for character in name[-40:].lower() if character.isalnum()).endswith(_REST)


def _closing(text, at, quote):
    """Return where the text ends that a quote began, which may stand behind backslashes; at the end of the line when nothing ends it."""
    line_end = text.find("\n", at)
    line_end = len(text) if line_end < 0 else line_end
    mark = quote.lstrip("\\") if quote[-1] in "\"'" else quote
    depth = len(quote) - len(mark)
    place = at
    while True:
        place = text.find(mark, place, line_end)
        if place < 0:
            return line_end
        before = place
        while before > at and text[before - 1] == "\\":
            before -= 1
        if place - before <= depth:
            return before if depth else place
        place += len(mark)


def _value(text, at, name, crossed):
    """Return the (begin, end) of the value at a position, None where there is nothing to mask.

    :param crossed: whether a line's end lies between the name and the value: then only quotes and brackets begin one.
    """
    if text.startswith(MASK, at):
        return None
    opening = _OPENING.match(text, at)
    if opening:
        begin = opening.end()
        end = _closing(text, begin, opening.group(0))
        after = _AFTER_NAME.match(text, end)
        if after and secret_name(text[begin:end]):
            return None  # the next name, which has a value of its own; this one has none
        return None if end == begin or text[begin:end] == MASK or _NOTHING.match(text, begin, end) else (begin, end)
    if _is_rest(name) and not crossed:
        end = _END_OF_REST.search(text, at)
        return at, end.start() if end else len(text)
    if text[at : at + 1] in ("{", "["):
        depth = 0
        for bracket in _BRACKETS.finditer(text, at):
            depth += 1 if bracket.group(0) in "{[" else -1
            if not depth:
                return at, bracket.end()
        return at, len(text)
    if crossed:
        return None
    block = _BLOCK.match(text, at)
    if block:
        lines = _INDENTED.match(text, block.end())
        return (lines.start() + 1, lines.end()) if lines else None
    end = _BARE.match(text, at).end()
    cut = _END_OF_BARE.search(text, at, end)
    # \Z of a search within bounds is their end, not the text's: the same here, since a value ends there.
    end = cut.start() if cut else end
    value = text[at:end]
    if end == at or _NOTHING.match(value):
        return None
    plain = name.lower().rstrip("_-.")
    if _NUMBER.match(value) and not plain.endswith(("pass", "word", "passwd", "pwd", "pw", "phrase", "code")):
        return None  # a port behind a name of a host, a count
    return at, end


def _mask_named(text, expression):
    """Mask the values of what is called like a secret."""
    pieces, kept = [], 0
    for found in expression.finditer(text):
        if found.start() < kept or not _named(text, found):
            continue
        if expression is _ELEMENT:
            end = text.find("<", found.end())
            span = found.end(), len(text) if end < 0 else end
        else:
            span = _value(text, found.end(), found.group(1), "\n" in found.group(2))
        if span:
            pieces += [text[kept : span[0]], MASK]
            kept = span[1]
    return "".join(pieces) + text[kept:] if pieces else text


def _mask_address(match):
    """Mask the credentials of the addresses in one word."""
    word = match.group(0)
    found = list(_AT.finditer(word))
    if not found:
        return word
    last = found[-1]
    for found in _AUTHORITY.finditer(word):
        begin = found.end()
        if begin > last.start():
            break
        plain = bool(found.group("plain"))
        if plain and last.group(0) != "@":
            at = word.rfind("@", begin)
            if at < 0:
                continue
        else:
            at = last.start()
        ends = (_AUTHORITY_END if plain else _ENCODED_END).search(word, begin)
        authority_end = ends.start() if ends else len(word)
        # Credentials with a slash in them still have their colon before it.
        if at < authority_end or _COLON.search(word, begin, authority_end):
            return word[:begin] + MASK + word[at:]
    return word


def _mask_url(match):
    url = match.group(0)
    if not _SIGNATURE.search(url):
        return url
    query = _QUERY.search(url)
    return url[: query.start()] + "?" + MASK if query else MASK


def bounded(text, limit=LINE_LIMIT):
    """Return text with its long lines cut. The word at which a line is cut goes as a whole, since half a secret is not recognised as one."""
    if len(text) <= limit:
        return text
    lines = text.split("\n")
    for number, line in enumerate(lines):
        if len(line) > limit:
            head = line[:limit]
            end = max(head.rfind(" "), head.rfind("\t"))
            end = end if end > 0 else max(head.rfind(","), head.rfind(";"))
            lines[number] = head[:end] + " ..." if end > 0 else "[a very long word]"
    return "\n".join(lines)


def redact(text):
    """Return text without credentials, shared access signatures and settings that Azure protects.

    :param text: str or None. Lines beyond ``LINE_LIMIT`` are cut.
    :returns: the same text with every secret replaced by ``[redacted]``; None stays None.
    Source: the list of what must never be collected in Microsoft's agent and extension layout.
    """
    if not text:
        return text
    text = bounded(_PEM.sub(MASK, text))
    low = text.lower()
    if any(sign in low for sign in _AT_SIGNS):
        text = _WORD.sub(_mask_address, text)
    if "sig" in low:
        text = _URL.sub(_mask_url, text)
        text = _BARE_SIGNATURE.sub(r"sig\1" + MASK, text)
    # Shapes and options first: what has two words, as "token: Bearer X", would lose the one that tells the other.
    for (expression, shown), needed in zip(_SHAPES, _NEEDED):
        if any(word in low for word in needed):
            text = expression.sub(shown, text)
    for expression in (_OPTION, _NAMED, _PAIR, _ELEMENT):
        text = _mask_named(text, expression)
    return text


def _plain(text):
    return all(map(_PLAIN.match, re.split(r"[;,\s]+", text)))


def redact_proxy(text):
    """Return a proxy's address, or a list of them, without credentials, whether or not a scheme stands in front of them.

    For addresses of proxies only: elsewhere an at sign without a scheme belongs to an e-mail address more often than to a password.
    A password may hold every separator, so rather an address too many is masked.
    """
    if not text:
        return text
    if len(text) > LINE_LIMIT:
        return MASK
    if "@" not in text:
        return redact(text)
    starts = [(found.start(), found.end()) for found in _START.finditer(text)]
    if not starts or starts[0][0] > 0:
        starts.insert(0, (0, 0))
    ends = [start for start, _address in starts[1:]] + [len(text)]
    shown = ""
    for (start, address), end in zip(starts, ends):
        _credentials, at_sign, rest = text[address:end].rpartition("@")
        if at_sign:
            rest = MASK + "@" + rest
        elif not _plain(rest):
            rest = MASK + ";"
        shown += text[start:address] + rest
    return redact(shown)


def redact_proxy_host(text):
    """Return the one address of a proxy's host without credentials.

    What is left of them counts too: an agent that cuts its values at a ``#`` cuts a password there, and the at sign is gone with its rest.
    """
    if not text:
        return text
    found = _START.match(text)
    if "@" in text or _plain(text[found.end() if found else 0 :]):
        return redact_proxy(text)
    return (found.group(0) if found else "") + MASK


def clip(text, limit=300):
    """Return text on one line, without control characters, at most limit characters long."""
    if text is None:
        return None
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= limit else text[: limit - 3] + "..."


def public_line(text, limit=300):
    """Return a line of a log as it may be shown: secrets masked, control characters out, clipped."""
    if text and len(text) > 2 * LINE_LIMIT:  # far beyond what is shown, cut at a word
        text = re.sub(r"\s\S*\Z", " ...", text[: 2 * LINE_LIMIT].rstrip())
    return clip(redact(text), limit)
