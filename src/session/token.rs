//! What names a session: the token in the cookie, the key in the store, the id that others may see.

use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, LazyLock};

use aws_lc_rs::digest;
use data_encoding::{BASE64URL_NOPAD, Encoding, HEXLOWER, Specification};

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

/// The bearer secret in the cookie: 160 random bits as 32 characters of base32, or where the store keeps nothing
/// itself the whole session, sealed, in base64url.
///
/// Whoever holds it holds the session, so it can't be printed: `Debug` shows no character of it, and there is
/// no `Display`. OWASP asks for at least 64 bits of entropy, ASVS 7.2.3 for 128.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Form);

#[derive(Clone, PartialEq, Eq)]
enum Form {
    /// The text of random bits.
    Random([u8; TOKEN_LEN]),
    /// What a store has sealed.
    Sealed(Arc<[u8]>),
}

/// The HMAC-SHA256 tag that a signed token carries.
pub type Tag = [u8; 32];

impl Token {
    /// Makes a token from 160 random bits.
    pub fn from_bits(bits: &[u8; 20]) -> Self {
        let mut text = [0; TOKEN_LEN];
        BASE32.encode_mut(bits, &mut text);
        Self(Form::Random(text))
    }

    /// Makes a token of a session that is sealed.
    pub fn of_sealed(sealed: Vec<u8>) -> Self {
        Self(Form::Sealed(sealed.into()))
    }

    /// Reads the text of a sealed token: base64url without padding, and without bits that no byte has. Whether its seal
    /// holds is for the store to say.
    pub fn parse_sealed(text: &[u8]) -> Option<Self> {
        let sealed = BASE64URL_NOPAD.decode(text).ok()?;
        (!sealed.is_empty()).then(|| Self::of_sealed(sealed))
    }

    /// What a store has sealed; `None` of a token of random bits.
    pub fn sealed(&self) -> Option<&[u8]> {
        match &self.0 {
            Form::Random(_) => None,
            Form::Sealed(sealed) => Some(sealed),
        }
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
        // All of them are looked at, many at once.
        let base32 = |b: &u8| u8::from(b.wrapping_sub(b'a') < 26) | u8::from(b.wrapping_sub(b'2') < 6);
        let fits = text.iter().fold(1, |fits, b| fits & base32(b)) == 1;
        fits.then(|| Some((Self(Form::Random(text.try_into().ok()?)), tag))).flatten()
    }

    /// The text, for the two places that may have it: the hash that makes a [`Key`], and `Set-Cookie`.
    pub fn expose(&self) -> Cow<'_, str> {
        match &self.0 {
            Form::Random(text) => Cow::Borrowed(std::str::from_utf8(text).expect("base32 is ASCII")),
            Form::Sealed(sealed) => Cow::Owned(BASE64URL_NOPAD.encode(sealed)),
        }
    }

    /// The cookie's value: the token, and behind a dot its tag.
    pub fn with_tag(&self, tag: Option<&Tag>) -> String {
        match tag {
            None => self.expose().into_owned(),
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
        let token = match &token.0 {
            Form::Random(text) => &text[..],
            Form::Sealed(sealed) => sealed,
        };
        let hash = digest::digest(&digest::SHA256, &[realm.as_bytes(), &[0], token].concat());
        let mut key = [0; 20];
        key.copy_from_slice(&hash.as_ref()[..20]);
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
        assert_eq!(Token::parse(token.expose().as_bytes()), Some((token.clone(), None)));
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
    fn a_sealed_token_is_base64url_and_never_printed() {
        let token = Token::of_sealed(vec![0xfb, 0xff, 1]);
        assert_eq!(token.expose(), "-_8B");
        assert_eq!(token.sealed(), Some(&[0xfb, 0xff, 1][..]));
        assert_eq!(Token::parse_sealed(b"-_8B"), Some(token.clone()));
        assert_eq!(format!("{token:?}"), "Token(secret)");
        assert_eq!(Token::from_bits(&[1; 20]).sealed(), None);
        for bad in ["", "A", "-_8=", "+/8B", "-_8B ", "AB", "-_\u{e9}B"] {
            assert_eq!(Token::parse_sealed(bad.as_bytes()), None, "{bad}");
        }
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
