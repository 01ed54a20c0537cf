//! What names a session: the token in the cookie, the key in the store, the id that others may see.

use std::fmt;

use aws_lc_rs::digest;
use data_encoding::{Encoding, HEXLOWER, Specification};
use std::sync::LazyLock;

/// RFC 4648 base32 in lower case without padding: `a`–`z` and `2`–`7`.
static BASE32: LazyLock<Encoding> = LazyLock::new(|| {
    let mut spec = Specification::new();
    spec.symbols.push_str("abcdefghijklmnopqrstuvwxyz234567");
    spec.encoding().expect("32 distinct symbols make an encoding")
});

/// Characters of a token: 160 bits in base32.
pub const TOKEN_LEN: usize = 32;
/// Characters of a tag: 256 bits in base32.
const TAG_LEN: usize = 52;

/// The bearer secret in the cookie, 160 random bits as 32 characters of base32.
///
/// Whoever holds it holds the session, so it can't be printed: `Debug` shows no character of it, and there is
/// no `Display`. OWASP asks for at least 64 bits of entropy, ASVS 7.2.3 for 128.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Token([u8; TOKEN_LEN]);

/// The HMAC-SHA256 tag that a signed token carries.
pub type Tag = [u8; 32];

impl Token {
    /// Makes a token from 160 random bits.
    pub fn from_bits(bits: &[u8; 20]) -> Self {
        let mut text = [0; TOKEN_LEN];
        BASE32.encode_mut(bits, &mut text);
        Self(text)
    }

    /// Reads a cookie's value: a token, and its tag where it carries one.
    ///
    /// Anything outside the grammar is `None`, and so never reaches the store (Django CVE-2020-13254).
    pub fn parse(value: &[u8]) -> Option<(Self, Option<Tag>)> {
        let (text, tag) = match value.len() {
            TOKEN_LEN => (value, None),
            n if n == TOKEN_LEN + 1 + TAG_LEN && value[TOKEN_LEN] == b'.' => {
                (&value[..TOKEN_LEN], Some(BASE32.decode(&value[TOKEN_LEN + 1..]).ok()?.try_into().ok()?))
            }
            _ => return None,
        };
        let base32 = |b: &u8| matches!(b, b'a'..=b'z' | b'2'..=b'7');
        text.iter().all(base32).then(|| Some((Self(text.try_into().ok()?), tag))).flatten()
    }

    /// The text, for the two places that may have it: the hash that makes a [`Key`], and `Set-Cookie`.
    pub fn expose(&self) -> &str {
        std::str::from_utf8(&self.0).expect("base32 is ASCII")
    }

    /// The cookie's value: the token, and behind a dot its tag.
    pub fn with_tag(&self, tag: Option<&Tag>) -> String {
        match tag {
            None => self.expose().to_owned(),
            Some(tag) => format!("{}.{}", self.expose(), BASE32.encode(tag)),
        }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(secret)")
    }
}

/// What the store files a record under: the first 160 bits of SHA-256 over realm, a zero byte and the token.
///
/// Whoever reads the store can't go back from a key to a token, so a leaked dump takes over no session.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key([u8; 20]);

impl Key {
    /// The key of a token in a realm (`session.realm`; two products on one store use two).
    pub fn of(realm: &str, token: &Token) -> Self {
        let mut hash = digest::Context::new(&digest::SHA256);
        hash.update(realm.as_bytes());
        hash.update(&[0]);
        hash.update(&token.0);
        let mut key = [0; 20];
        key.copy_from_slice(&hash.finish().as_ref()[..20]);
        Self(key)
    }

    /// Makes a key from its 20 bytes.
    pub const fn from_bytes(bytes: [u8; 20]) -> Self {
        Self(bytes)
    }

    /// The 20 bytes.
    pub const fn as_bytes(&self) -> &[u8; 20] {
        &self.0
    }

    /// Reads the 40 hexadecimal digits that [`fmt::Display`] writes.
    pub fn from_hex(hex: &[u8]) -> Option<Self> {
        let mut key = [0; 20];
        (hex.len() == 40).then(|| HEXLOWER.decode_mut(hex, &mut key).ok()).flatten()?;
        Some(Self(key))
    }

    /// The 40 hexadecimal digits.
    pub fn to_hex(self) -> [u8; 40] {
        let mut hex = [0; 40];
        HEXLOWER.encode_mut(&self.0, &mut hex);
        hex
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.to_hex()).expect("hex is ASCII"))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({self})")
    }
}

/// What backends, logs and the admin API may see of a session: stable while its token lives, and no secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Id(Key);

impl From<Key> for Id {
    fn from(key: Key) -> Self {
        Self(key)
    }
}

impl Id {
    /// The id as text, 40 hexadecimal digits.
    pub fn to_hex(self) -> [u8; 40] {
        self.0.to_hex()
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_32_characters_of_base32_and_never_printed() {
        let token = Token::from_bits(&[0xff; 20]);
        assert_eq!(token.expose(), "7".repeat(32));
        assert_eq!(Token::parse(token.expose().as_bytes()), Some((token, None)));
        assert!(!format!("{token:?}").contains('7'));
    }

    #[test]
    fn a_tag_travels_behind_a_dot() {
        let token = Token::from_bits(&[1; 20]);
        let value = token.with_tag(Some(&[9; 32]));
        assert_eq!(value.len(), 32 + 1 + 52);
        assert_eq!(Token::parse(value.as_bytes()), Some((token, Some([9; 32]))));
    }

    #[test]
    fn what_is_outside_the_grammar_is_no_token() {
        let good = "a".repeat(32);
        for bad in [
            String::new(),
            "a".repeat(31),
            "a".repeat(33),
            "A".repeat(32),
            "1".repeat(32),
            format!("\"{}\"", "a".repeat(30)),
            format!("{good}."),
            format!("{good}.{}", "a".repeat(51)),
            format!("{good}.{}", "A".repeat(52)),
            format!("{good}-{}", "a".repeat(52)),
            format!("{good}.{}", "7".repeat(52)), // the last character has bits that 256 don't fill
            "../../../../../../../etc/passwd.".to_owned(),
        ] {
            assert_eq!(Token::parse(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn the_key_is_the_hash_of_realm_and_token() {
        let token = Token::from_bits(&[0; 20]);
        // printf '\0aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa' | sha256sum | cut -c1-40
        assert_eq!(Key::of("", &token).to_string(), EMPTY_REALM);
        assert_ne!(Key::of("shop", &token), Key::of("", &token));
        assert_eq!(Key::from_hex(EMPTY_REALM.as_bytes()), Some(Key::of("", &token)));
        assert_eq!(Key::from_hex(b"zz"), None);
    }

    const EMPTY_REALM: &str = "946f778b2f798fb0a7cfa93c1058ede982cd30dc";
}
