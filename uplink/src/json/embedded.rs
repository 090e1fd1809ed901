//! Payloads that are embedded in a line as the JSON that they are: only what any strict reader takes, for one that it does not take ends the reading
//! of all that follow. Such a reader knows no surrogate without its other half, and no number beyond an IEEE double; it goes [`DEPTH_MAX`] deep at least.
//!
//! One pass checks and copies, and nothing is kept on the heap. It knows nothing of records.

/// Appends `text` without the white space between its tokens, and says that it is JSON; or appends nothing. Numbers keep all their digits.
pub(super) fn write(into: &mut Vec<u8>, text: &str) -> bool {
    let before = into.len();
    let copy = Copy {
        text,
        json: text.as_bytes(),
        at: 0,
        kept: 0,
        into,
    };
    let is_json = copy.document().is_some();
    if !is_json {
        into.truncate(before);
    }
    is_json
}

/// How far it was understood, and how far it was copied. Each method takes what it is named after, or is `None`.
struct Copy<'a> {
    text: &'a str,
    json: &'a [u8],
    at: usize,
    /// Before this all is copied or white space.
    kept: usize,
    into: &'a mut Vec<u8>,
}

/// What is open around a value, the innermost last.
#[derive(Default)]
struct Nesting {
    depth: u32,
    /// A bit for each: whether it is an object. The innermost is the lowest.
    objects: u128,
}

impl Copy<'_> {
    fn document(mut self) -> Option<()> {
        let mut nesting = Nesting::default();
        self.space();
        loop {
            self.value(&mut nesting)?;
            while let Some(end) = nesting.end() {
                self.space();
                match self.peek()? {
                    byte if byte == end => nesting.leave(),
                    b',' => break,
                    _ => return None,
                }
                self.at += 1;
            }
            if nesting.depth == 0 {
                break;
            }
            self.at += 1;
            self.space();
            if nesting.is_object() {
                self.name()?;
            }
        }
        self.space();
        self.into.extend_from_slice(&self.json[self.kept..]);
        (self.at == self.json.len()).then_some(())
    }

    /// A value without parts, or all beginnings up to the first of them, or to the end of an empty one.
    fn value(&mut self, nesting: &mut Nesting) -> Option<()> {
        loop {
            let end = match self.peek()? {
                b'"' => return self.string(),
                b't' => return self.word("true"),
                b'f' => return self.word("false"),
                b'n' => return self.word("null"),
                b'{' => b'}',
                b'[' => b']',
                _ => return self.number(),
            };
            self.at += 1;
            nesting.enter(end == b'}')?;
            self.space();
            if self.peek()? == end {
                return Some(());
            }
            if nesting.is_object() {
                self.name()?;
            }
        }
    }

    /// Name, colon and the space before the value.
    fn name(&mut self) -> Option<()> {
        if self.peek()? != b'"' {
            return None;
        }
        self.string()?;
        self.space();
        self.one(b":")?;
        self.space();
        Some(())
    }

    fn string(&mut self) -> Option<()> {
        self.at += 1;
        loop {
            let is_plain = |byte: &u8| !matches!(byte, b'"' | b'\\' | 0..0x20);
            let rest = &self.json[self.at..];
            self.at += rest.iter().position(|byte| !is_plain(byte))?;
            match self.json[self.at] {
                b'"' => break,
                b'\\' => self.escape()?,
                _ => return None,
            }
        }
        self.at += 1;
        Some(())
    }

    fn escape(&mut self) -> Option<()> {
        match self.json.get(self.at + 1)? {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => self.at += 2,
            b'u' => match self.unit()? {
                0xd800..0xdc00 if !matches!(self.unit()?, 0xdc00..0xe000) => return None,
                0xdc00..0xe000 => return None,
                _ => {}
            },
            _ => return None,
        }
        Some(())
    }

    /// `\uXXXX`.
    fn unit(&mut self) -> Option<u32> {
        let escape = self.json.get(self.at..self.at + 6)?;
        self.at += 6;
        let mut digits = escape.strip_prefix(b"\\u")?.iter();
        digits.try_fold(0, |unit, digit| {
            Some(unit << 4 | char::from(*digit).to_digit(16)?)
        })
    }

    fn number(&mut self) -> Option<()> {
        let from = self.at;
        self.one(b"-");
        match self.peek()? {
            b'0' => self.at += 1,
            _ => self.digits()?,
        }
        if self.one(b".").is_some() {
            self.digits()?;
        }
        let has_exponent = self.one(b"eE").is_some();
        if has_exponent {
            self.one(b"+-");
            self.digits()?;
        }
        let is_surely_finite = !has_exponent && self.at - from <= f64::MAX_10_EXP as usize;
        let is_finite = || self.text[from..self.at].parse().is_ok_and(f64::is_finite);
        (is_surely_finite || is_finite()).then_some(())
    }

    fn digits(&mut self) -> Option<()> {
        let from = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        (self.at > from).then_some(())
    }

    fn word(&mut self, word: &str) -> Option<()> {
        let is_there = self.json[self.at..].starts_with(word.as_bytes());
        self.at += word.len();
        is_there.then_some(())
    }

    /// One byte of `these`.
    fn one(&mut self, these: &[u8]) -> Option<()> {
        let is_there = self.peek().is_some_and(|byte| these.contains(&byte));
        self.at += usize::from(is_there);
        is_there.then_some(())
    }

    /// White space, if any; what stands before it is copied.
    fn space(&mut self) {
        let from = self.at;
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
        if self.at > from {
            self.into.extend_from_slice(&self.json[self.kept..from]);
            self.kept = self.at;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.json.get(self.at).copied()
    }
}

impl Nesting {
    fn enter(&mut self, is_object: bool) -> Option<()> {
        self.depth += 1;
        self.objects = self.objects << 1 | u128::from(is_object);
        (self.depth <= DEPTH_MAX).then_some(())
    }

    fn leave(&mut self) {
        self.depth -= 1;
        self.objects >>= 1;
    }

    fn is_object(&self) -> bool {
        self.objects & 1 == 1
    }

    /// What ends the innermost.
    fn end(&self) -> Option<u8> {
        let end = if self.is_object() { b'}' } else { b']' };
        (self.depth > 0).then_some(end)
    }
}

/// Of arrays and objects in each other. Readers that have a bound stop at some hundreds, of which the line takes one or two itself.
const DEPTH_MAX: u32 = 100;
const _: () = assert!(DEPTH_MAX <= u128::BITS);

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn written(text: &str) -> Option<String> {
        let mut into = b"before".to_vec();
        let is_json = write(&mut into, text);
        let rest = into.strip_prefix(b"before").expect("it only appends");
        let rest = String::from_utf8(rest.to_vec()).expect("text stays text");
        assert!(is_json || rest.is_empty(), "{text} left {rest}");
        is_json.then_some(rest)
    }

    #[test]
    fn what_some_reader_does_not_take_is_not_embedded() {
        let nested = |depth| "[".repeat(depth) + &"]".repeat(depth);
        let objects = |depth| "{\"a\":".repeat(depth) + "1" + &"}".repeat(depth);
        for text in [
            r#""\ud800""#,
            r#""\udc00\ud800""#,
            r#""\ud800\u0041""#,
            r#""\ud800 \udc00""#,
            r#"{"\udfff":1}"#,
            r#"[1,{"a":["\uD83D"]}]"#,
            "1e309",
            "-1E+400",
            &"9".repeat(400),
            &nested(101),
            &nested(100_000),
            &objects(101),
            &"[".repeat(100),
        ] {
            assert_eq!(written(text), None, "{text}");
        }
        for text in [
            r#""\ud83d\ude00""#,
            r#"{"\uD83D\uDE00":"\uffff\u0000"}"#,
            "1e308",
            "-0.0E-999",
            &"9".repeat(308),
            &nested(100),
            &objects(100),
        ] {
            assert_eq!(written(text).as_deref(), Some(text));
        }
    }

    /// Each text that is one byte away from a value with everything in it is judged as by a reader that was written by others.
    #[test]
    fn it_judges_as_a_strict_reader_does() {
        let whole = "{ \"a\\n\\u00e9\": [true,false , null, -0.50e+1,12,[ ],{}],\t\"\\uD83D\\uDE00ü\":\r\n{\"b\" :{ \"c\": \"\\\\\\\"/\"}} } ";
        let same = |text: &str| {
            let read: Option<Value> = serde_json::from_str(text).ok();
            let ours = written(text);
            let ours = ours.map(|text| serde_json::from_str(&text).expect("JSON"));
            assert_eq!(ours, read, "{text}");
        };
        same(whole);
        same("");
        let bytes = b" \t\n\x00\x1f\x7f\"\\/{}[]:,+-.0123456789eEabcfnrtuxdD8";
        for at in 0..=whole.len() {
            if !whole.is_char_boundary(at) {
                continue;
            }
            let (head, tail) = whole.split_at(at);
            same(head);
            let mut behind = tail.chars();
            behind.next();
            same(&format!("{head}{}", behind.as_str()));
            for &byte in bytes {
                let byte = char::from(byte);
                same(&format!("{head}{byte}{tail}"));
                same(&format!("{head}{byte}{}", behind.as_str()));
            }
        }
    }
}
