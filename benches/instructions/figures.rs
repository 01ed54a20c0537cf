//! The figures: those that were counted now, and those of `instructions.toml`.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, ExitCode};

use serde::Deserialize;

/// Where the figures are committed.
const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions.toml");
/// What a figure may rise or fall by, in percent.
const TOLERANCE: u64 = 5;
/// What it may besides, in instructions: of the shortest cases 5 % are two or three.
const SLACK: u64 = 20;

/// How many instructions each case is, and what they were counted with.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Figures {
    made_by: BTreeMap<String, String>,
    instructions: BTreeMap<String, u64>,
    /// The names as the program has them.
    #[serde(skip)]
    order: Vec<&'static str>,
}

impl Figures {
    /// Reads what gungraun printed: one JSON object a line. Each of `names` has to be there, and nothing else.
    pub fn counted(printed: &str, names: Vec<&'static str>) -> Self {
        let mut counts: BTreeMap<String, u64> = printed
            .lines()
            .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
            .filter_map(|summary| {
                let instructions = &summary["profiles"][0]["data"]["total"]["metrics"]["Ir"]["values"]["new"];
                Some((summary["id"].as_str()?.to_owned(), instructions.as_u64()?))
            })
            .collect();
        let named = |name: &&'static str| {
            let count = counts.remove(&id(name));
            (
                (*name).to_owned(),
                count.unwrap_or_else(|| panic!("{name} was not counted: instructions.rs does not list it")),
            )
        };
        let instructions = names.iter().map(named).collect();
        assert!(counts.is_empty(), "instructions.rs lists what is no case: {counts:?}");
        Self { made_by: makers(), instructions, order: names }
    }

    /// Writes the figures down.
    pub fn commit(&self) {
        let mut text = "# Instructions of each case of benches/instructions.rs, one run of it.
# Written by `cargo bench --bench instructions -- --commit`; benches/README.md says when.\n\n[made-by]\n"
            .to_owned();
        for (what, which) in &self.made_by {
            text += &format!("{what} = {which:?}\n");
        }
        text += "\n[instructions]\n";
        for name in &self.order {
            text += &format!("{name:?} = {}\n", self.instructions[*name]);
        }
        fs::write(FILE, text).expect("the file can be written");
        println!("{} figures are in {FILE}", self.order.len());
    }

    /// Compares them with those that are committed.
    pub fn compare(&self) -> ExitCode {
        let text = fs::read_to_string(FILE).unwrap_or_default();
        let then: Self = match toml::from_str(&text) {
            Ok(then) => then,
            Err(error) => {
                eprintln!("{FILE}: {error}");
                return ExitCode::FAILURE;
            }
        };
        let differs = |what: &&String| then.made_by.get(*what) != self.made_by.get(*what);
        if let Some(what) = self.made_by.keys().find(differs) {
            let of =
                |figures: &Self| figures.made_by.get(what).cloned().unwrap_or_else(|| "nothing".to_owned());
            println!(
                "The committed counts are of another {what}: they were made with {}, and here is {}.\n\
                 Counts of different ones can't be compared, so nothing was. To compare on this machine: check out what\n\
                 is known to be good, run this with --commit, check out the rest, and run it again.",
                of(&then),
                of(self)
            );
            return ExitCode::SUCCESS;
        }
        let (mut longer, mut shorter) = (0, 0);
        println!("{:<26} {:>12} {:>12} {:>8}", "instructions", "committed", "now", "");
        for name in &self.order {
            let now = self.instructions[*name];
            let Some(committed) = then.instructions.get(*name).copied() else {
                longer += 1;
                println!("{name:<26} {:>12} {now:>12}           is new: commit it", "-");
                continue;
            };
            let verdict = if now * 100 > committed * (100 + TOLERANCE) + SLACK * 100 {
                longer += 1;
                "  TOO MANY"
            } else if (now + SLACK) * 100 < committed * (100 - TOLERANCE) {
                shorter += 1;
                "  fewer"
            } else {
                ""
            };
            #[allow(clippy::cast_precision_loss, reason = "a percentage for people")]
            let change = (now as f64 / committed as f64 - 1.0) * 100.0;
            println!("{name:<26} {committed:>12} {now:>12} {change:>+7.1}%{verdict}");
        }
        if shorter > 0 {
            println!(
                "{shorter} have become more than {TOLERANCE} % shorter: commit that, so that the next rise is seen\n  \
                 cargo bench --bench instructions -- --commit"
            );
        }
        if longer > 0 {
            println!(
                "{longer} are more than {TOLERANCE} % longer than benches/instructions.toml says, or are not in it.\n\
                 If that is the price of something, commit it beside that, and say so:\n  \
                 cargo bench --bench instructions -- --commit"
            );
            return ExitCode::FAILURE;
        }
        ExitCode::SUCCESS
    }
}

/// A case's name as gungraun has it, which is one of Rust's.
pub fn id(name: &str) -> String {
    name.to_lowercase().replace(['/', '-'], "_")
}

/// What libraries choose their instructions by: of a processor's features those that valgrind shows them.
///
/// It says that it is the same processor everywhere, but for what the real one can't do.
fn processor(about: &str) -> String {
    const SHOWN: [&str; 9] = ["ssse3", "sse4_2", "avx", "f16c", "rdrand", "avx2", "bmi1", "bmi2", "rdseed"];
    let flags = about.lines().find(|line| line.starts_with("flags") || line.starts_with("Features"));
    let flags: Vec<&str> = flags.unwrap_or_default().split_ascii_whitespace().skip(2).collect();
    let shown: Vec<&str> = SHOWN.into_iter().filter(|flag| flags.contains(flag)).collect();
    if shown.is_empty() { flags.join(" ") } else { shown.join(" ") }
}

/// What counts depend on besides our own sources and `Cargo.lock`.
fn makers() -> BTreeMap<String, String> {
    let said = |program: &str, words: &[&str]| {
        let output = Command::new(program).args(words).output();
        let output = output.unwrap_or_else(|error| panic!("{program} can't be asked what it is: {error}"));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let rustc = said("rustc", &["-vV"]);
    let target = rustc.lines().find_map(|line| line.strip_prefix("host: ")).unwrap_or_default();
    let libc = said("getconf", &["GNU_LIBC_VERSION"]);
    [
        ("rustc", rustc.lines().next().unwrap_or_default()),
        ("target", target),
        ("valgrind", said("valgrind", &["--version"]).trim()),
        ("libc", libc.trim()),
        ("processor", &processor(&fs::read_to_string("/proc/cpuinfo").unwrap_or_default())),
    ]
    .map(|(what, which)| (what.to_owned(), which.to_owned()))
    .into()
}
