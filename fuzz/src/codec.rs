//! The codec, native and sealed: what is written comes back, and what was not written does not become a session.

use std::sync::LazyLock;

use arbitrary::{Arbitrary, Result, Unstructured};
use bytes::Bytes;
use coatroom::secret::Secret;
use coatroom::session::data::{Data, Map};
use coatroom::session::record::{Entry, History, How, Tombstone};
use coatroom::session::{Expiry, Key, Record, Revision, Scope};
use coatroom::store::codec::{Codec, is_session};
use coatroom::store::{Config, Unsealed};
use coatroom::time::Timestamp;
use data_encoding::BASE64;
use serde_json::{Number, Value};

/// Digits of the native form, those of base64url.
const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const KEY: Key = Key::from_bytes([7; 20]);
const OTHER: Key = Key::from_bytes([8; 20]);

static NATIVE: LazyLock<Codec> = LazyLock::new(Codec::default);
static SEALED: LazyLock<Codec> = LazyLock::new(|| sealing(&[1, 2], Unsealed::Refuse));
static RENEWED: LazyLock<Codec> = LazyLock::new(|| sealing(&[2, 1], Unsealed::Read));
static STRANGE: LazyLock<Codec> = LazyLock::new(|| sealing(&[3], Unsealed::Read));

fn sealing(keys: &[u8], unsealed: Unsealed) -> Codec {
    let encryption_keys = keys.iter().map(|key| Secret::new(BASE64.encode(&[*key; 32]))).collect();
    Codec::of(&Config { encryption_keys, unsealed, ..Config::default() }).expect("these keys are keys")
}

/// Checks one record, or bytes that are none.
pub fn check(input: &[u8]) {
    let Some((kind, rest)) = input.split_first() else { return };
    match kind % 4 {
        0 => {
            let mut source = Unstructured::new(rest);
            if let (Ok((entry, history)), Ok(damage)) = (kept(&mut source), Vec::arbitrary(&mut source)) {
                comes_back(&entry, &history, &damage);
            }
        }
        1 => decodes(&Bytes::copy_from_slice(rest)),
        2 => decodes(&fitted(rest)),
        _ => decodes(&[b"s1", rest].concat().into()),
    }
}

/// Bytes behind `1:` and the checksum that fits them.
fn fitted(rest: &[u8]) -> Bytes {
    let mut sum = crc32fast::Hasher::new();
    sum.update(KEY.as_bytes());
    sum.update(rest);
    let sum = sum.finalize();
    let digits: Vec<u8> = (0..6).rev().map(|n| DIGITS[((u64::from(sum) >> (6 * n)) & 63) as usize]).collect();
    [b"1:", &digits[..], rest].concat().into()
}

fn comes_back(entry: &Entry, history: &History, damage: &[(u16, u8)]) {
    let said = Ok((entry.clone(), *history));
    for codec in [&*NATIVE, &*SEALED] {
        let value = codec.encode("shop", &KEY, entry, history).expect("there are random numbers");
        let read = codec.decode("shop", &KEY, &value);
        assert_eq!(read, said);
        is_whole(&read.expect("it was just compared").0, entry);
        assert_eq!(is_session(&value), matches!(entry, Entry::Live(_)));
        assert!(!codec.is_old(&value));
        // Nobody else's.
        assert!(codec.decode("shop", &OTHER, &value).is_err());
        let mut changed = value.to_vec();
        for (at, bits) in damage {
            let at = usize::from(*at) % changed.len();
            changed[at] ^= bits;
        }
        let differing = changed.iter().zip(&value).filter(|(one, other)| one != other).count();
        // A checksum of 32 bits finds every burst that is no longer than itself, not every change.
        let sealed = value.starts_with(b"s1");
        if differing > 0 && (sealed || differing == 1) {
            assert!(codec.decode("shop", &KEY, &changed.into()).is_err());
        }
    }
    let sealed = SEALED.encode("shop", &KEY, entry, history).expect("there are random numbers");
    assert_eq!(RENEWED.decode("shop", &KEY, &sealed), said);
    assert!(RENEWED.is_old(&sealed));
    assert!(SEALED.decode("pub", &KEY, &sealed).is_err());
    assert!(STRANGE.decode("shop", &KEY, &sealed).is_err() && NATIVE.decode("shop", &KEY, &sealed).is_err());
    let native = NATIVE.encode("shop", &KEY, entry, history).expect("it isn't sealed");
    assert_eq!(RENEWED.decode("shop", &KEY, &native), said);
    assert!(SEALED.decode("shop", &KEY, &native).is_err(), "what has to be sealed");
}

/// The entries are equal when they are read, not only their text.
fn is_whole(read: &Entry, written: &Entry) {
    if let (Some(read), Some(written)) = (read.data(), written.data()) {
        assert!(read.map().iter().eq(written.map()));
    }
}

/// Whatever is read could have been written: it can be written again, a header can carry it, and it is JSON.
fn decodes(value: &Bytes) {
    for codec in [&*NATIVE, &*SEALED, &*RENEWED] {
        let Ok((entry, history)) = codec.decode("shop", &KEY, value) else { continue };
        assert!(!value.starts_with(b"s1"), "a seal was forged");
        let again = codec.encode("shop", &KEY, &entry, &history).expect("there are random numbers");
        assert_eq!(codec.decode("shop", &KEY, &again), Ok((entry.clone(), history)));
        if let Some(data) = entry.data() {
            assert!(data.text().iter().all(|byte| (0x20..0x7f).contains(byte)), "no header can carry it");
            assert!(data.text().starts_with(b"{") && data.text().ends_with(b"}"));
            assert!(serde_json::from_slice::<Map>(data.text()).is_ok_and(|map| map == *data.map()));
        }
    }
}

fn kept(source: &mut Unstructured<'_>) -> Result<(Entry, History)> {
    let mut history = [None; 3];
    for slot in history.iter_mut().take(source.int_in_range(0..=3)?) {
        *slot = Some(revision(source)?);
    }
    let entry = match source.int_in_range(0..=3)? {
        0 => Entry::Ended(Tombstone { at: instant(source)?, how: How::Flushed }),
        1 => {
            let (successor, revision) = (Key::from_bytes(source.arbitrary()?), revision(source)?);
            let how = How::Cycled { successor, revision, before: Box::new(record(source)?) };
            Entry::Ended(Tombstone { at: instant(source)?, how })
        }
        _ => Entry::Live(record(source)?),
    };
    Ok((entry, history))
}

fn revision(source: &mut Unstructured<'_>) -> Result<Revision> {
    Ok(Revision::from_bits(source.arbitrary::<u64>()?.max(1)).expect("it is not 0"))
}

/// Between 1970 and the end of time, as clocks have it.
fn instant(source: &mut Unstructured<'_>) -> Result<Timestamp> {
    Ok(Timestamp::from_millis(source.int_in_range(0..=Timestamp::MAX.as_millis())?))
}

fn record(source: &mut Unstructured<'_>) -> Result<Record> {
    let created_at = instant(source)?;
    let later = source.int_in_range(created_at.as_millis()..=Timestamp::MAX.as_millis())?;
    let expiry = match source.int_in_range(0..=3)? {
        0 => Expiry::Default,
        1 => Expiry::Browser,
        2 => Expiry::Idle(source.arbitrary()?),
        _ => Expiry::At(instant(source)?),
    };
    let mut map = Map::new();
    for _ in 0..source.int_in_range(0..=5)? {
        map.insert(key(source)?, value(source, 3)?);
    }
    Ok(Record {
        data: Data::from_map(map),
        created_at,
        modified_at: Timestamp::from_millis(later),
        expiry,
        scope: Scope(source.arbitrary()?),
        subject: source.arbitrary()?,
    })
}

/// Any but the one by which serde_json would read an object as a number; no directive can set it.
fn key(source: &mut Unstructured<'_>) -> Result<String> {
    Ok(source.arbitrary::<String>()?.replace("$serde_json", ""))
}

fn value(source: &mut Unstructured<'_>, levels: usize) -> Result<Value> {
    Ok(match source.int_in_range(0..=if levels == 0 { 3 } else { 5 })? {
        0 => Value::Null,
        1 => source.arbitrary::<bool>()?.into(),
        2 => source.arbitrary::<String>()?.into(),
        3 => Value::Number(match source.arbitrary::<f64>()? {
            float if float.is_finite() && float.fract() != 0.0 => {
                Number::from_f64(float).expect("it is finite")
            }
            _ => source.arbitrary::<i64>()?.into(),
        }),
        4 => {
            let mut items = Vec::new();
            for _ in 0..source.int_in_range(0..=4)? {
                items.push(value(source, levels - 1)?);
            }
            items.into()
        }
        _ => {
            let mut map = Map::new();
            for _ in 0..source.int_in_range(0..=4)? {
                map.insert(key(source)?, value(source, levels - 1)?);
            }
            map.into()
        }
    })
}
