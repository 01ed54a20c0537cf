//! JSON (RFC 8259) by recursive descent, strict and slow: what a directive may hold.

use serde_json::{Map, Number, Value};

/// Levels of objects and arrays that one value may have.
const MAX_DEPTH: usize = 32;

/// The values of a text, divided by commas; `None` if it is anything else, or an object has a key twice.
pub fn values(text: &str) -> Option<Vec<Value>> {
    let mut reader = Reader { text, at: 0 };
    let mut all = Vec::new();
    loop {
        reader.blank();
        all.push(reader.value(0)?);
        reader.blank();
        if reader.at == text.len() {
            return Some(all);
        }
        reader.take(",")?;
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn take(&mut self, what: &str) -> Option<()> {
        let found = self.rest().starts_with(what);
        self.at += if found { what.len() } else { 0 };
        found.then_some(())
    }

    fn blank(&mut self) {
        while self.peek().is_some_and(|char| [' ', '\t', '\n', '\r'].contains(&char)) {
            self.at += 1;
        }
    }

    fn value(&mut self, depth: usize) -> Option<Value> {
        match self.peek()? {
            '[' | '{' if depth == MAX_DEPTH => None,
            '[' => self.array(depth),
            '{' => self.object(depth),
            '"' => self.string().map(Value::String),
            't' => self.take("true").map(|()| true.into()),
            'f' => self.take("false").map(|()| false.into()),
            'n' => self.take("null").map(|()| Value::Null),
            _ => self.number(),
        }
    }

    fn array(&mut self, depth: usize) -> Option<Value> {
        let mut items = Vec::new();
        self.take("[")?;
        self.blank();
        if self.take("]").is_some() {
            return Some(items.into());
        }
        loop {
            self.blank();
            items.push(self.value(depth + 1)?);
            self.blank();
            if self.take("]").is_some() {
                return Some(items.into());
            }
            self.take(",")?;
        }
    }

    fn object(&mut self, depth: usize) -> Option<Value> {
        let mut map = Map::new();
        self.take("{")?;
        self.blank();
        if self.take("}").is_some() {
            return Some(map.into());
        }
        loop {
            self.blank();
            let key = self.string()?;
            self.blank();
            self.take(":")?;
            self.blank();
            let value = self.value(depth + 1)?;
            if map.contains_key(&key) {
                return None;
            }
            map.insert(key, value);
            self.blank();
            if self.take("}").is_some() {
                return Some(map.into());
            }
            self.take(",")?;
        }
    }

    fn string(&mut self) -> Option<String> {
        self.take("\"")?;
        let mut units: Vec<u16> = Vec::new();
        loop {
            let char = self.peek()?;
            self.at += char.len_utf8();
            match char {
                '"' => return String::from_utf16(&units).ok(),
                '\\' => units.push(self.escape()?),
                '\0'..=' ' if char != ' ' => return None,
                _ => units.extend_from_slice(char.encode_utf16(&mut [0; 2])),
            }
        }
    }

    fn escape(&mut self) -> Option<u16> {
        let char = self.peek()?;
        self.at += char.len_utf8();
        Some(match char {
            'u' => {
                let digits = self.rest().get(..4)?;
                let hexadecimal = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
                let unit = hexadecimal.then(|| u16::from_str_radix(digits, 16).ok()).flatten()?;
                self.at += 4;
                unit
            }
            'b' => 8,
            't' => 9,
            'n' => 10,
            'f' => 12,
            'r' => 13,
            '"' | '\\' | '/' => u16::from(u8::try_from(char).ok()?),
            _ => return None,
        })
    }

    fn number(&mut self) -> Option<Value> {
        let begin = self.at;
        let _ = self.take("-");
        let leading = self.at;
        let whole = self.digits()?;
        if whole > 1 && self.text[leading..].starts_with('0') {
            return None;
        }
        if self.take(".").is_some() {
            self.digits()?;
        }
        if self.take("e").or_else(|| self.take("E")).is_some() {
            let _ = self.take("+").or_else(|| self.take("-"));
            self.digits()?;
        }
        let number: Number = self.text[begin..self.at].parse().expect("a number by the grammar is one");
        Some(number.into())
    }

    fn digits(&mut self) -> Option<usize> {
        let count = self.rest().bytes().take_while(u8::is_ascii_digit).count();
        self.at += count;
        (count > 0).then_some(count)
    }
}
