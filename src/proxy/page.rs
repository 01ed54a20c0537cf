//! `errors.page`: errors of our own for people, where a client asks for HTML.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Read as _;

use http::HeaderMap;
use http::header::ACCEPT;
use serde::{Deserialize, Serialize};

/// Bytes that a page may have.
const MOST: u64 = 64 * 1024;
/// What surrounds a placeholder. Single braces are CSS.
const BRACES: (&str, &str) = ("{{", "}}");

/// `[errors]`: what clients are told where something fails.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// An HTML file for clients that ask for HTML; empty = problem+json for all.
    pub page: String,
}

/// A page, read and understood.
#[derive(Clone, Debug, PartialEq)]
pub struct Page(Vec<Piece>);

#[derive(Clone, Debug, PartialEq)]
enum Piece {
    Text(String),
    Status,
    Title,
    Type,
    Id,
}

/// What stands in the place of placeholders.
pub struct Fill<'a> {
    /// `{{status}}`: the status code.
    pub status: u16,
    /// `{{title}}`: what happened, in a sentence.
    pub title: &'a str,
    /// `{{type}}`: the problem's type, as problem+json has it.
    pub kind: &'a str,
    /// `{{id}}`: the request's ID, as `X-Request-Id` and the log have it.
    pub id: &'a str,
}

impl Page {
    /// Reads the page of the settings; `None` where there is none.
    ///
    /// # Errors
    /// Says what is wrong with the file, and what to do, without naming the setting.
    pub fn read(config: &Config) -> Result<Option<Self>, String> {
        if config.page.is_empty() {
            return Ok(None);
        }
        let wrong = |what: String| format!("{} {what}", config.page);
        let unreadable = |error| wrong(format!("can't be read ({error}): name a file that can be"));
        // A pipe would be read once, and whoever opens one waits for its writer.
        if !fs::metadata(&config.page).map_err(unreadable)?.is_file() {
            return Err(wrong("is no file: name one".to_owned()));
        }
        let mut bytes = Vec::new();
        File::open(&config.page)
            .and_then(|file| file.take(MOST + 1).read_to_end(&mut bytes))
            .map_err(unreadable)?;
        if bytes.len() as u64 > MOST {
            return Err(wrong("has more than 64 KiB: make it smaller".to_owned()));
        }
        let text = String::from_utf8(bytes)
            .map_err(|error| wrong(format!("is not UTF-8 ({}): save it as UTF-8", error.utf8_error())))?;
        Self::parse(&text).map(Some).map_err(wrong)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let (mut pieces, mut rest) = (Vec::new(), text);
        while let Some((before, behind)) = rest.split_once(BRACES.0) {
            pieces.push(Piece::Text(before.to_owned()));
            let line = 1 + text[..text.len() - behind.len()].matches('\n').count();
            let (name, after) = behind.split_once(BRACES.1).ok_or_else(|| {
                format!("has {{{{ without }}}} in line {line}: close it, or write one brace")
            })?;
            pieces.push(match name.trim() {
                "status" => Piece::Status,
                "title" => Piece::Title,
                "type" => Piece::Type,
                "id" => Piece::Id,
                other => {
                    let other: String = other.chars().take(20).collect();
                    let there = "there are {{status}}, {{title}}, {{type}} and {{id}}";
                    return Err(format!("has no value for {other:?} in line {line}: {there}"));
                }
            });
            rest = after;
        }
        pieces.push(Piece::Text(rest.to_owned()));
        Ok(Self(pieces))
    }

    /// The page of one error. What is filled in is escaped.
    pub fn fill(&self, fill: &Fill<'_>) -> String {
        let mut html = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => html += text,
                Piece::Status => write!(html, "{}", fill.status).expect("writing into memory succeeds"),
                Piece::Title => escape(&mut html, fill.title),
                Piece::Type => escape(&mut html, fill.kind),
                Piece::Id => escape(&mut html, fill.id),
            }
        }
        html
    }
}

fn escape(html: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            c => html.push(c),
        }
    }
}

/// Does a client like HTML better than problem+json (RFC 9110 §12.5.1)? One that says nothing, or likes both alike,
/// does not.
pub fn is_wanted(headers: &HeaderMap) -> bool {
    let lines = || headers.get_all(ACCEPT).iter().filter_map(|line| line.to_str().ok());
    let html = liking(lines(), &["text/html"]);
    html > 0 && html > liking(lines(), &["application/problem+json", "application/json"])
}

/// How much one of these types is liked, in thousandths: the most specific range that matches counts.
fn liking<'a>(lines: impl Iterator<Item = &'a str>, types: &[&str]) -> u16 {
    let mut best = (0, 0);
    for range in lines.flat_map(|line| split(line, ',')) {
        let mut parameters = split(range, ';').map(str::trim);
        let name = parameters.next().unwrap_or_default().to_ascii_lowercase();
        let specific = match &*name {
            "*/*" => 1,
            name if name.ends_with("/*")
                && types.iter().any(|kind| kind.starts_with(&name[..name.len() - 1])) =>
            {
                2
            }
            name if types.contains(&name) => 3,
            _ => continue,
        };
        let quality = parameters.find_map(|parameter| {
            let (name, value) = parameter.split_once('=')?;
            name.trim().eq_ignore_ascii_case("q").then(|| value.trim().parse::<f32>().unwrap_or(0.0))
        });
        // Of a float nothing is left but what HTTP gives it: three digits from 0 to 1.
        let thousandths = (quality.unwrap_or(1.0).clamp(0.0, 1.0) * 1000.0).round();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 1000")]
        let thousandths = thousandths as u16;
        if specific > best.0 || (specific == best.0 && thousandths > best.1) {
            best = (specific, thousandths);
        }
    }
    best.1
}

/// Splits a text where it is not quoted (RFC 9110 §5.6.4).
fn split(text: &str, at: char) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |c| {
        let plain = !std::mem::take(&mut escaped);
        quoted ^= c == '"' && plain;
        escaped = c == '\\' && plain && quoted;
        c == at && !quoted
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn a_page_is_filled_in_and_what_is_filled_in_is_escaped() {
        let page = Page::parse("<style>p{color:red}</style>{{status}} {{ title }}|{{type}}|{{id}}").unwrap();
        let fill = Fill { status: 503, title: "a <b> & 'c'", kind: "urn:x", id: "\"1\"" };
        let html = "<style>p{color:red}</style>503 a &lt;b&gt; &amp; &#39;c&#39;|urn:x|&quot;1&quot;";
        assert_eq!(page.fill(&fill), html);
    }

    #[test]
    fn a_page_that_cannot_be_understood_is_refused() {
        for (bad, told) in [
            ("{{", "has {{ without }} in line 1: "),
            ("a\n{{status}} {{detail}}", "has no value for \"detail\" in line 2: "),
            ("\r\n\r\na {{status}", "has {{ without }} in line 3: "),
            ("{{}}", "has no value for \"\" in line 1: "),
        ] {
            let refusal = Page::parse(bad).unwrap_err();
            assert!(refusal.starts_with(told), "{refusal}");
        }
    }

    #[test]
    fn html_is_for_those_who_like_it_better() {
        for (accept, wanted) in [
            (&[][..], false),
            (&[""], false),
            (&["*/*"], false),
            (&["text/html"], true),
            (&["TEXT/HTML; charset=utf-8"], true),
            (&["text/*"], true),
            (&["text/html", "application/json;q=0.5"], true),
            (&["text/html, */*"], false),
            (&["text/html;q=0"], false),
            (&["text/html;q=0.9, application/problem+json"], false),
            (&["text/html;q=0.4, */*;q=0.3"], true),
            (&["text/html;level=1;q=0.3, application/*;q=0.2"], true),
            (&["*/*, text/html;q=0.1"], false),
            (&["text/html;q=nan"], false),
            (&["*/*;q=0.1, text/plain;a=\"\\\", text/html;q=1, \""], false),
            (&["text/plain;a=\"b\", text/html"], true),
            // Browsers.
            (
                &["text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"],
                true,
            ),
            (&["application/json"], false),
        ] {
            let mut headers = HeaderMap::new();
            for line in accept {
                headers.append(ACCEPT, HeaderValue::from_static(line));
            }
            assert_eq!(is_wanted(&headers), wanted, "{accept:?}");
        }
    }
}
