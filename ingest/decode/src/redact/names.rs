//! Names that give their values away, and what a value under a less telling name must look like.
//!
//! Guarantee: under a telling name any value is a secret, but for placeholders (`***`, `null`, `${VAR}`) in running text; under a
//! weak one (`token`, `sig`) only what looks random. Names are compared by their end, without case and separators, so
//! `DB_PASSWORD`, `db-password` and `dbPassword` are one, and so is `password2`.

use super::places;
use crate::json::{Kind, Value};

/// Ends of telling names.
pub(crate) const TELLING: &[&str] = &[
    "password",
    "passwd",
    "passwords",
    "passwordconfirm",
    "passwordconfirmation",
    "passphrase",
    "passcode",
    "pwd",
    "secret",
    "secretstring",
    "secretbinary",
    "secretvalue",
    "apikey",
    "apikeys",
    // `apiKey.key`, as agentgateway flattens it.
    "apikeykey",
    "accesskey",
    "accesskeyid",
    "secretkey",
    "privatekey",
    "signingkey",
    "encryptionkey",
    "accountkey",
    "masterkey",
    "sharedkey",
    "subscriptionkey",
    "functionskey",
    "accesstoken",
    "refreshtoken",
    "idtoken",
    "authtoken",
    "sessiontoken",
    "bearertoken",
    "apitoken",
    "securitytoken",
    "privatetoken",
    "bottoken",
    "deploytoken",
    "authorization",
    "authorizationcode",
    "codeverifier",
    "clientassertion",
    // A token's id. Where it belongs it becomes `token_ref`, a digest under its issuer's name.
    "jti",
    "cookie",
    "cookies",
    "credential",
    "credentials",
    "connectionstring",
    "xamzsignature",
    "xgoogsignature",
    "clientkeydata",
    "presharedkey",
    "mnemonic",
    "seedphrase",
    "recoverycode",
    "recoverycodes",
    "backupcode",
    "backupcodes",
    "pw",
    "psw",
    "pswd",
    "passwrd",
    "pword",
    // `pass` by itself ends other words: bypass, compass.
    "dbpass",
    "userpass",
    "adminpass",
    "rootpass",
    "authpass",
    "smtppass",
    "mailpass",
    "mysqlpass",
    "redispass",
    "ldappass",
    "bindpass",
    "proxypass",
    "keypass",
    "storepass",
    "sshpass",
    // Password in German, Scandinavian languages, Dutch, Finnish, Portuguese, Spanish, French, Polish, Czech, Hungarian, Turkish.
    "passwort",
    "kennwort",
    "passord",
    "losenord",
    "adgangskode",
    "wachtwoord",
    "salasana",
    "senha",
    "contrasena",
    "motdepasse",
    "haslo",
    "heslo",
    "jelszo",
    "sifre",
];
/// The same in letters that are not ASCII.
const FOREIGN: &[&str] =
    &["contraseña", "lösenord", "hasło", "jelszó", "пароль", "密码", "密碼", "口令", "パスワード", "비밀번호"];
/// What may stand behind a telling name and says only how the value is written.
const TAILS: &[&str] =
    &["value", "text", "string", "hash", "header", "plain", "plaintext", "encrypted", "raw", "base", "data"];
/// Whole names that are telling when a scalar stands under them; as objects they are structure.
const TELLING_SCALARS: &[&str] =
    &["token", "auth", "pass", "pin", "otp", "cvv", "cvc", "psk", "mdp", "parola", "pincode"];
/// Ends of names that are telling when the value looks random.
const WEAK: &[&str] = &["token", "sig", "signature", "jwt", "bearer", "hmackey", "authkey", "sastoken"];
/// Ends of names that are not, though they end in one of these.
const PLAIN: &[&str] = &[
    "pagetoken",
    "nexttoken",
    "cursortoken",
    "continuationtoken",
    "continuetoken",
    "synctoken",
    "progresstoken",
    "csrftoken",
    "xsrftoken",
    "publickey",
];

/// How much a name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Says {
    /// Its value is a secret.
    Secret,
    /// Its value is one if it looks random.
    Perhaps,
    Nothing,
}

/// A name without case and separators, and without the number at its end; of a long one only the end matters.
pub(crate) struct Folded {
    bytes: [u8; 40],
    from: usize,
    numbered: bool,
}

fn is_separator(b: &u8) -> bool {
    matches!(b, b'_' | b'-' | b'.' | b' ')
}

/// Digits of the number at the end of a name. A longer one is a year, or an id.
#[inline]
fn number(name: &[u8]) -> usize {
    const DIGITS_MAX: usize = 2;
    let digits =
        name.iter().rev().filter(|b| !is_separator(b)).take(DIGITS_MAX + 1).take_while(|b| b.is_ascii_digit()).count();
    if digits > DIGITS_MAX { 0 } else { digits }
}

impl Folded {
    pub(crate) fn new(name: &[u8]) -> Folded {
        let mut folded = Folded { bytes: [0; 40], from: 40, numbered: false };
        let number = number(name);
        folded.numbered = number > 0;
        for b in name.iter().rev().filter(|b| !is_separator(b)).skip(number) {
            if folded.from == 0 {
                break;
            }
            folded.from -= 1;
            folded.bytes[folded.from] = b.to_ascii_lowercase();
        }
        folded
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[self.from..]
    }

    pub(crate) fn ends_with(&self, end: &str) -> bool {
        self.as_bytes().ends_with(end.as_bytes())
    }
}

/// For each last letter of a telling name the letters that stand before it, as bits: nearly every name is turned away by these.
static LAST: [u32; 26] = {
    let mut last = [0u32; 26];
    let lists = [TELLING, TELLING_SCALARS, WEAK];
    let mut list = 0;
    while list < lists.len() {
        let mut n = 0;
        while n < lists[list].len() {
            let name = lists[list][n].as_bytes();
            last[(name[name.len() - 1] - b'a') as usize] |= 1 << (name[name.len() - 2] - b'a');
            n += 1;
        }
        list += 1;
    }
    last
};

/// The same for [`TAILS`].
static TAIL_LAST: [u32; 26] = {
    let mut last = [0u32; 26];
    let mut n = 0;
    while n < TAILS.len() {
        let name = TAILS[n].as_bytes();
        last[(name[name.len() - 1] - b'a') as usize] |= 1 << (name[name.len() - 2] - b'a');
        n += 1;
    }
    last
};

/// Whether a name may tell, by its last two letters, or those before a tail; false is certain.
#[inline]
pub(crate) fn may_tell(name: &[u8]) -> bool {
    match last_two(name) {
        Some((last, before)) if LAST[last] >> before & 1 == 1 => true,
        Some((last, before)) if TAIL_LAST[last] >> before & 1 == 1 => without_tail(name)
            .is_some_and(|rest| last_two(rest).is_none_or(|(last, before)| LAST[last] >> before & 1 == 1)),
        Some(_) => false,
        // Names in other alphabets are compared as a whole.
        None => name.iter().rev().take(2).any(|b| *b >= 0x80),
    }
}

/// The last two letters of a name, counted from `a`; `None` when they are none of ASCII.
#[inline]
fn last_two(name: &[u8]) -> Option<(usize, u32)> {
    let mut letters = name.iter().rev().filter(|b| !is_separator(b)).skip(number(name));
    let mut letter = || letters.next().map(|b| (b | 0x20).wrapping_sub(b'a')).filter(|n| *n < 26);
    match (letter(), letter()) {
        (Some(last), Some(before)) => Some((usize::from(last), u32::from(before))),
        _ => None,
    }
}

/// A name without what only says how its value is written: `passwordValue`.
fn without_tail(name: &[u8]) -> Option<&[u8]> {
    const REST_MIN: usize = 2;
    let end = name.iter().rposition(|b| !is_separator(b) && !b.is_ascii_digit())? + 1;
    let name = &name[..end];
    TAILS.iter().find_map(|tail| {
        let from = name.len().checked_sub(tail.len()).filter(|from| *from >= REST_MIN)?;
        // Most differ in the first letter.
        if name[from] | 0x20 != tail.as_bytes()[0] {
            return None;
        }
        name[from..].eq_ignore_ascii_case(tail.as_bytes()).then(|| &name[..from])
    })
}

/// The member by which a key of JOSE (JWK) is known, and those that are its secret part.
pub(crate) const KEY_TYPE: &str = "kty";
const KEY_PARTS: &[&str] = &["d", "k", "p", "q", "dp", "dq", "qi", "oth"];

/// Whether a member of a key of JOSE is secret.
pub(crate) fn is_key_part(name: &[u8]) -> bool {
    name.len() <= 3 && KEY_PARTS.iter().any(|part| part.as_bytes() == name)
}

/// Whether an object is a key of JOSE.
pub(crate) fn is_key(object: Value<'_>) -> bool {
    object.entries().any(|(key, v)| key == KEY_TYPE && v.as_str().is_some())
}

/// What a name says of its value.
#[inline]
pub(crate) fn says(name: &[u8], scalar: bool) -> Says {
    if may_tell(name) { said(name, scalar) } else { Says::Nothing }
}

fn said(name: &[u8], scalar: bool) -> Says {
    match (whole(name, scalar), without_tail(name)) {
        (Says::Nothing, Some(rest)) => whole(rest, scalar),
        (says, _) => says,
    }
}

/// What a name says as it is.
fn whole(name: &[u8], scalar: bool) -> Says {
    let folded = Folded::new(name);
    let any = |ends: &[&str]| ends.iter().any(|end| folded.ends_with(end));
    let alone = || !folded.numbered && TELLING_SCALARS.iter().any(|t| folded.as_bytes() == t.as_bytes());
    if any(TELLING) || any(FOREIGN) || (scalar && alone()) {
        Says::Secret
    } else if scalar && any(WEAK) && !any(PLAIN) {
        Says::Perhaps
    } else {
        Says::Nothing
    }
}

/// Whether a value is a scalar, or a list of nothing else, as headers are written.
pub(crate) fn is_scalar(value: Value<'_>) -> bool {
    let leaf = |v: Value<'_>| !matches!(v.kind(), Kind::Object | Kind::Array);
    leaf(value) || (value.kind() == Kind::Array && value.items().all(leaf))
}

/// Whether a member of a value, at any depth, may be told by its name, or by the name beside it; false is certain. Recursive: the
/// parser has bounded the depth.
pub(crate) fn tells(value: Value<'_>) -> bool {
    match value.kind() {
        Kind::Object => {
            value.entries().any(|(key, v)| key == KEY_TYPE || says(key.as_bytes(), true) != Says::Nothing || tells(v))
                || named_beside(value).is_some_and(|name| says(name.as_bytes(), true) != Says::Nothing)
        }
        Kind::Array => {
            value.items().any(tells)
                || (pairs(value)
                    && value.items().any(|pair| {
                        let name = pair.items().next().and_then(|v| v.as_str()).unwrap_or_default();
                        says(name.as_bytes(), true) != Says::Nothing
                    }))
        }
        _ => false,
    }
}

/// The name of what an object holds the value of: `{"name": "password", "value": "..."}`.
pub(crate) fn named_beside(object: Value<'_>) -> Option<&str> {
    let mut members = object.entries();
    let name = members.find_map(|(key, v)| v.as_str().filter(|_| places::is_named(key)))?;
    object.entries().any(|(key, _)| places::is_valued(key)).then_some(name)
}

/// Whether a list is one of pairs of texts, as headers are also written.
pub(crate) fn pairs(list: Value<'_>) -> bool {
    let pair = |v: Value<'_>| {
        let mut items = v.items();
        v.kind() == Kind::Array
            && items.next().is_some_and(|v| v.as_str().is_some())
            && items.next().is_some_and(|v| v.as_str().is_some())
            && items.next().is_none()
    };
    list.items().next().is_some() && list.items().all(pair)
}

/// Whether a value looks random and is no id: long enough, of mixed make, without pattern.
pub(crate) fn random(value: &[u8]) -> bool {
    const LENGTH_MIN: usize = 16;
    /// Bits per character: words of English have about 2.9 at this length, base64 of 16 random characters 3.6 and more.
    const ENTROPY_MIN: f64 = 3.2;
    let token =
        |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'_' | b'-' | b'=' | b'.' | b'~' | b'%');
    if value.len() < LENGTH_MIN || value.len() > 4096 || !value.iter().all(token) || is_id(value) {
        return false;
    }
    let classes = [u8::is_ascii_digit, u8::is_ascii_lowercase, u8::is_ascii_uppercase];
    let mixed =
        classes.iter().filter(|class| value.iter().any(class)).count() >= 2 && value.iter().any(u8::is_ascii_digit);
    mixed && entropy(value) >= ENTROPY_MIN
}

/// Hexadecimal digits in groups, or decimal ones: UUIDs, digests, trace ids, times; a ULID; a digest of our own.
fn is_id(value: &[u8]) -> bool {
    let ulid = value.len() == 26 && value.iter().all(|b| b.is_ascii_digit() || b.is_ascii_uppercase());
    ulid || value.iter().all(|b| b.is_ascii_hexdigit() || *b == b'-') || is_digest(value)
}

fn entropy(value: &[u8]) -> f64 {
    let mut counts = [0u32; 256];
    value.iter().for_each(|b| counts[usize::from(*b)] += 1);
    let length = value.len() as f64;
    counts.iter().filter(|n| **n > 0).map(|n| f64::from(*n) / length).map(|p| -p * p.log2()).sum()
}

/// Whether a value is a keyed digest already.
pub(crate) fn is_digest(value: &[u8]) -> bool {
    value
        .strip_prefix(b"hmac:")
        .is_some_and(|d| d.len() == 32 && d.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
}

/// Length of the marker that a text begins with. The whole form counts: half of one would shelter what stands behind it.
pub(crate) fn marker(text: &[u8]) -> Option<usize> {
    let rest = text.strip_prefix(b"[redacted:")?;
    let kind = rest.iter().position(|b| !matches!(b, b'a'..=b'z' | b'_'))?;
    let digest = rest.get(kind..kind + 10)?;
    let formed = kind > 0 && digest[0] == b':' && digest[9] == b']' && digest[1..9].iter().all(u8::is_ascii_hexdigit);
    formed.then_some(10 + kind + 10)
}

/// Whether a value is a marker, and nothing else.
pub(crate) fn is_marker(value: &[u8]) -> bool {
    marker(value) == Some(value.len())
}

/// What stands for a value that somebody has taken away already.
pub(crate) fn is_placeholder(value: &[u8]) -> bool {
    const WORDS: &[&[u8]] =
        &[b"null", b"none", b"nil", b"true", b"false", b"undefined", b"redacted", b"hidden", b"masked"];
    let lower = value.to_ascii_lowercase();
    let variable = value.strip_prefix(b"$").is_some_and(|name| {
        name.first().is_some_and(|b| b.is_ascii_alphabetic() || *b == b'_')
            && name.iter().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || *b == b'_')
    });
    variable
        || value.iter().all(|b| matches!(b, b'*' | b'x' | b'X' | b'.' | b'?' | b'-'))
        || WORDS.contains(&lower.as_slice())
        || starts_as_placeholder(value)
        || is_marker(value)
        || is_digest(value)
}

/// The same, told by how it begins: a variable, a template, a marker.
pub(crate) fn starts_as_placeholder(value: &[u8]) -> bool {
    [&b"${"[..], b"{{", b"<", b"%(", b"$("].iter().any(|start| value.starts_with(start))
}

/// What the names are, for the policy's version.
pub(crate) fn describe() -> String {
    [TELLING, TELLING_SCALARS, WEAK, PLAIN, FOREIGN, TAILS].map(|names| names.join(" ")).join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A name that the quick look misses would not be looked at.
    #[test]
    fn every_telling_name_is_looked_at() {
        for name in TELLING.iter().chain(TELLING_SCALARS).chain(WEAK).chain(FOREIGN) {
            assert_ne!(says(name.as_bytes(), true), Says::Nothing, "{name}");
        }
    }

    #[test]
    fn names() {
        for (name, expected) in [
            ("DB_PASSWORD", Says::Secret),
            ("dbPassword", Says::Secret),
            ("Set-Cookie", Says::Secret),
            ("token", Says::Secret),
            ("password2", Says::Secret),
            ("newPassword_1 ", Says::Secret),
            ("passwordValue", Says::Secret),
            ("secretText", Says::Secret),
            ("tokenValue", Says::Secret),
            ("deviceTokenValue", Says::Perhaps),
            ("apiKeyHeader", Says::Secret),
            ("secret_key_base", Says::Secret),
            ("password_hash", Says::Secret),
            ("PASSWORD-BASE64", Says::Secret),
            ("pw", Says::Secret),
            ("bind_pw2", Says::Secret),
            ("Passwort", Says::Secret),
            ("mot_de_passe", Says::Secret),
            ("пароль", Says::Secret),
            ("db_密码", Says::Secret),
            ("имя", Says::Nothing),
            ("value", Says::Nothing),
            ("stringValue", Says::Nothing),
            ("user_data", Says::Nothing),
            ("password_policy", Says::Nothing),
            ("bypass", Says::Nothing),
            ("auth0", Says::Nothing),
            ("password-2026", Says::Nothing),
            ("2", Says::Nothing),
            ("csrf_token", Says::Nothing),
            ("nextPageToken", Says::Nothing),
            ("deviceToken", Says::Perhaps),
            ("primary_key", Says::Nothing),
            ("tokens", Says::Nothing),
            ("", Says::Nothing),
        ] {
            assert_eq!(says(name.as_bytes(), true), expected, "{name}");
        }
    }

    #[test]
    fn what_looks_random() {
        for (value, expected) in [
            ("9tGk2LmQx7VbZp4RwYc8", true),
            ("4bf92f3577b34da6a3ce929d0e0e4736", false),
            ("6b1f7d0e-8c1f-4a57-9c39-0d6d9f7f2f10", false),
            ("01K36G5QCE6D3M2XJ0Z9B4T7VA", false),
            ("customer-records-of-the-quarter", false),
            ("short9A", false),
        ] {
            assert_eq!(random(value.as_bytes()), expected, "{value}");
        }
    }
}
