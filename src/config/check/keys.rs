//! The rules of a list of keys and its `_file` twin: each key on its own, so that one bad key hides no other.

use super::Report;
use crate::secret::{Material, Secret};

const REMEDY: &str = "let coatroom keys generate make one";

pub(super) fn check(setting: &str, here: &[Secret], file: &str, report: &mut Report) {
    for (n, secret) in here.iter().enumerate() {
        let key = format!("{setting}[{n}]");
        if let (true, Some(what)) = (report.not_hidden(&key, secret), fault(secret.expose())) {
            report.add(key, what, REMEDY);
        }
    }
    if file.is_empty() {
        return;
    }
    let key = format!("{setting}_file");
    if !here.is_empty() {
        return report.add(key, format!("{setting} is set too"), "remove one of them");
    }
    match Secret::of(&Secret::default(), file) {
        Err(what) => report.add(key, format!("can't be read ({what})"), "name a file that can be"),
        Ok(text) if text.expose().trim().is_empty() => report.add(key, "the file is empty", REMEDY),
        Ok(text) => {
            for (n, line) in text.expose().lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
                if let Some(what) = fault(line) {
                    report.add(&key, format!("line {} of the file: {what}", n + 1), REMEDY);
                }
            }
        }
    }
}

/// What is wrong with a key, and nothing of its text.
fn fault(text: &str) -> Option<String> {
    match text.trim() {
        "" => Some("is empty".to_owned()),
        text => Material::parse(text).err(),
    }
}
