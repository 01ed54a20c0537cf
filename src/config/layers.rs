//! The layers that settings come in: defaults, the file, the environment, the flags.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use figment::value::{Dict, Map, Value};
use figment::{Error, Metadata, Profile, Provider};

use super::fault::Fault;
use super::file::{self, File};
use super::key::Key;
use super::problem::Problem;
use super::schema::{Misfits, Schema};

/// What the names of our environment variables begin with, and what parts section and key.
///
/// Two underscores, because Kubernetes gives every container `COATROOM_PORT=tcp://…` for a Service named `coatroom`.
const PREFIX: &str = "COATROOM__";
const PARTED: &str = "__";

/// Where settings may come from besides the defaults.
///
/// There is no `Debug`: the environment holds secrets.
#[derive(Clone, Default)]
pub struct Sources {
    /// The TOML file; `None` = no file is read.
    pub file: Option<PathBuf>,
    /// The environment; variables that don't begin with `COATROOM__` are ignored.
    pub environment: Vec<(OsString, OsString)>,
    /// Flags of the command line that set a setting.
    pub flags: Vec<Flag>,
}

/// A flag of the command line that sets a setting.
#[derive(Clone)]
pub struct Flag {
    /// The setting, such as `proxy.listen`.
    pub key: &'static str,
    /// The flag, such as `--listen`.
    pub name: &'static str,
    /// Its value, read as an environment variable's is.
    pub value: String,
}

/// The settings of one source, each of which fits its field.
#[derive(Default)]
pub(super) struct Layer {
    name: String,
    values: Dict,
    lines: BTreeMap<String, usize>,
    /// The keys of elements that were left out of their lists.
    lost: Vec<String>,
}

impl Layer {
    /// What the source is called.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The key in the source of a key in the settings: elements that didn't fit count there too.
    pub(super) fn origin(&self, key: &str) -> String {
        let parts = key.split_once('[').and_then(|(list, rest)| Some((list, rest.split_once(']')?)));
        let Some((list, (index, rest))) = parts else { return key.to_owned() };
        let kept = (0..).filter(|n| !self.lost.contains(&format!("{list}[{n}]")));
        let index = index.parse().ok().and_then(|index| kept.into_iter().nth(index)).unwrap_or(0_usize);
        format!("{list}[{index}]{rest}")
    }

    /// The source of a key: with the line, where it has lines.
    pub(super) fn place(&self, key: &str) -> String {
        place(&self.name, &self.lines, key)
    }
}

impl Provider for &Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, Error> {
        Ok(Map::from([(Profile::Default, self.values.clone())]))
    }
}

/// The layers, lowest first, and what didn't find its way into them.
pub(super) struct Gathered {
    /// What fits.
    pub(super) layers: Vec<Layer>,
    /// What doesn't.
    pub(super) problems: Vec<Problem>,
    /// Was the file read? Without it the settings say nothing about each other.
    pub(super) complete: bool,
}

/// Reads all sources.
pub(super) fn gather(sources: &Sources) -> Gathered {
    let schema = Schema::new();
    let defaults =
        Layer { name: "default".to_owned(), values: schema.defaults().clone(), ..Layer::default() };
    let mut gathered = Gathered { layers: vec![defaults], problems: Vec::new(), complete: true };
    if let Some(path) = &sources.file {
        match read(path) {
            Ok(file) => gathered.file(&schema, path, file),
            Err(problems) => {
                let name = path.display().to_string();
                gathered.problems.extend(problems.into_iter().map(|problem| problem.at(&*name)));
                gathered.complete = false;
            }
        }
    }
    let mut environment = sources.environment.clone();
    environment.sort();
    for (name, value) in environment {
        let Some(path) = name.to_str().and_then(|name| name.strip_prefix(PREFIX)) else { continue };
        let key = Key::dotted(&path.to_lowercase().replace(PARTED, "."));
        match value.to_str() {
            Some(value) => gathered.variable(&schema, &name.to_string_lossy(), &key, value),
            None => {
                let problem = Problem::new(key.to_string(), "is not UTF-8", "set it to a text in UTF-8");
                gathered.problems.push(problem.at(name.to_string_lossy()));
            }
        }
    }
    for flag in &sources.flags {
        gathered.variable(&schema, flag.name, &Key::dotted(flag.key), &flag.value);
    }
    gathered
}

fn read(path: &Path) -> Result<File, Vec<Problem>> {
    let text = fs::read_to_string(path).map_err(|error| {
        vec![Problem::new("", format!("can't be read ({error})"), "name a TOML file that can be")]
    })?;
    File::read(&text)
}

impl Gathered {
    fn file(&mut self, schema: &Schema, path: &Path, file: File) {
        let name = path.display().to_string();
        let mut misfits = Misfits::default();
        let values = schema.fit(&Key::default(), file.values.into(), &mut misfits);
        let Misfits { mut faults, lost } = misfits;
        faults.sort_by_key(|fault| line(&file.lines, &fault.key.to_string()));
        let report = |fault: Fault| {
            let place = place(&name, &file.lines, &fault.key.to_string());
            fault.problem(schema).at(place)
        };
        self.problems.extend(faults.into_iter().map(report));
        let values = values.and_then(Value::into_dict).unwrap_or_default();
        let lost = lost.iter().map(Key::to_string).collect();
        self.layers.push(Layer { name, values, lines: file.lines, lost });
    }

    /// Adds a setting that is given as a text: the first reading of it that fits counts.
    fn variable(&mut self, schema: &Schema, name: &str, key: &Key, text: &str) {
        let mut mismatches = Vec::new();
        for reading in readings(text, schema.is_list(key)) {
            let mut misfits = Misfits::default();
            let fitting = schema.fit(key, reading, &mut misfits);
            let faults = misfits.faults;
            if let (Some(value), true) = (fitting, faults.is_empty()) {
                let around = |value, name: &str| Dict::from([(name.to_owned(), value)]).into();
                let values = key.names().rev().fold(value, around).into_dict().unwrap_or_default();
                self.layers.push(Layer { name: name.to_owned(), values, ..Layer::default() });
                return;
            }
            // A reading of the wrong type says less than one of the right type whose value is bad.
            if mismatches.is_empty() || !faults.iter().any(Fault::is_mismatch) {
                mismatches = faults;
            }
        }
        self.problems.extend(mismatches.into_iter().map(|fault| fault.problem(schema).at(name)));
    }
}

/// What a text may mean: the TOML value that it is, or else itself, or for a list its parts between commas.
fn readings(text: &str, is_list: bool) -> Vec<Value> {
    let toml = file::value(text);
    if is_list {
        let parts = || text.split(',').map(str::trim).filter(|part| !part.is_empty()).collect::<Vec<_>>();
        return vec![
            toml.filter(|value| matches!(value, Value::Array(..))).unwrap_or_else(|| parts().into()),
        ];
    }
    toml.into_iter().chain([text.into()]).collect()
}

/// The source of a key, with its line where it has one.
fn place(name: &str, lines: &BTreeMap<String, usize>, key: &str) -> String {
    line(lines, key).map_or_else(|| name.to_owned(), |line| format!("{name}, line {line}"))
}

/// The line of a key, or of the nearest thing around it that has one.
fn line(lines: &BTreeMap<String, usize>, key: &str) -> Option<usize> {
    lines.get(key).copied().or_else(|| line(lines, &key[..key.rfind(['.', '['])?]))
}
