//! The table, and the statements that are made of its name.

use std::fmt;
use std::sync::Arc;

use super::Misfit;
use crate::store::engine::PAGE;

/// The setting that names it.
pub(super) const SETTING: &str = "store.table";
/// Its columns, of which the last one is ours and the others are Django's.
pub(super) const COLUMNS: [&str; 4] = ["session_key", "session_data", "expire_date", "revision"];
/// The longest name that each database takes.
const LONGEST: usize = 63;

/// The name of the table, as it was checked: letters, digits and underscores, and perhaps a schema before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    pub(super) schema: Option<String>,
    pub(super) name: String,
}

impl Table {
    /// Reads the setting. Nothing else gets into a statement than what is allowed here.
    ///
    /// # Errors
    /// If it is no such name.
    pub(super) fn new(text: &str) -> Result<Self, Misfit> {
        let fits = |name: &str| {
            let begins = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
            begins
                && name.len() <= LONGEST
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        };
        let (schema, name) = match text.split_once('.') {
            Some((schema, name)) => (Some(schema), name),
            None => (None, text),
        };
        if !fits(name) || !schema.is_none_or(fits) {
            let what = "is no name of a table: write table or schema.table, of letters, digits and _";
            return Err((SETTING, what.to_owned()));
        }
        Ok(Self { schema: schema.map(str::to_owned), name: name.to_owned() })
    }

    /// The name between the quotation marks of a database.
    pub(super) fn quoted(&self, mark: char) -> String {
        let quoted = |name: &str| format!("{mark}{name}{mark}");
        match &self.schema {
            Some(schema) => format!("{}.{}", quoted(schema), quoted(&self.name)),
            None => quoted(&self.name),
        }
    }

    /// The name of the index on `expire_date`. Django's own has a hash in it, which is no matter.
    pub(super) fn index(&self) -> String {
        // So that the longest name has one of its own.
        let room = LONGEST - "_expire_date".len();
        format!("{}_expire_date", &self.name[..self.name.len().min(room)])
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.schema {
            Some(schema) => write!(f, "{schema}.{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// A statement. Its parameters are `$1`, `$2`, … or, where a database wants that, one `?` each in the same order.
pub(super) type Statement = Arc<str>;

/// What differs between the databases' statements.
pub(super) struct Manner {
    /// The quotation mark around names.
    pub(super) mark: char,
    /// Parameters are `?`.
    pub(super) question_marks: bool,
    /// How `expire_date` is read.
    pub(super) read_date: &'static str,
    /// What stands at the end of an `INSERT` that is to do nothing where the key is taken.
    pub(super) unless_taken: &'static str,
}

/// The statements of every call.
pub struct Statements {
    /// What lies under a key.
    pub(super) get: Statement,
    /// The same without the data.
    pub(super) look: Statement,
    pub(super) add: Statement,
    pub(super) replace: Statement,
    pub(super) touch: Statement,
    pub(super) remove: Statement,
    /// The keys after another one, in their order.
    pub(super) scan: Statement,
    /// Says whether the table is there, and has our columns.
    pub(super) probe: Statement,
}

impl Statements {
    pub(super) fn new(table: &Table, manner: &Manner) -> Self {
        let (table, date) = (table.quoted(manner.mark), manner.read_date);
        let statement = |text: String| statement(&text, manner.question_marks);
        Self {
            get: statement(format!(
                "SELECT session_data, revision, {date} FROM {table} WHERE session_key = $1"
            )),
            look: statement(format!("SELECT '', revision, {date} FROM {table} WHERE session_key = $1")),
            add: statement(format!(
                "INSERT INTO {table} (session_key, session_data, expire_date, revision) VALUES ($1, $2, $3, $4){}",
                manner.unless_taken
            )),
            replace: statement(format!(
                "UPDATE {table} SET session_data = $1, expire_date = $2, revision = $3 \
                 WHERE session_key = $4 AND revision = $5"
            )),
            touch: statement(format!(
                "UPDATE {table} SET expire_date = $1 WHERE session_key = $2 AND revision = $3"
            )),
            remove: statement(format!("DELETE FROM {table} WHERE session_key = $1 AND revision = $2")),
            scan: statement(format!(
                "SELECT session_key, revision, {date} FROM {table} WHERE session_key > $1 \
                 ORDER BY session_key LIMIT {PAGE}"
            )),
            probe: statement(format!(
                "SELECT session_key, session_data, expire_date, revision FROM {table} LIMIT 0"
            )),
        }
    }
}

/// A statement whose parameters stand in their order.
pub(super) fn statement(text: &str, question_marks: bool) -> Statement {
    if !question_marks {
        return text.into();
    }
    let mut made = String::with_capacity(text.len());
    let mut parts = text.split('$');
    made.push_str(parts.next().unwrap_or_default());
    for part in parts {
        made.push('?');
        made.push_str(part.trim_start_matches(|c: char| c.is_ascii_digit()));
    }
    made.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_a_name_and_nothing_else() {
        for name in ["django_session", "_s", "app.sessions", "S2.T"] {
            let table = Table::new(name).unwrap_or_else(|(_, what)| panic!("{name} {what}"));
            assert_eq!(table.to_string(), name);
        }
        let long = "a".repeat(64);
        for name in ["", ".", "a.", ".a", "a.b.c", "a b", "a\"b", "a`", "a;", "1a", "a-b", "é", &long] {
            assert_eq!(Table::new(name).err().map(|(key, _)| key), Some(SETTING), "{name}");
        }
    }

    #[test]
    fn names_are_quoted_one_by_one() {
        let table = Table::new("app.sessions").unwrap_or_else(|(_, what)| panic!("{what}"));
        assert_eq!(
            (table.quoted('"'), table.quoted('`')),
            ("\"app\".\"sessions\"".into(), "`app`.`sessions`".into())
        );
        assert_eq!(table.index(), "sessions_expire_date");
        let long = Table { schema: None, name: "a".repeat(63) };
        assert_eq!(long.index().len(), 63);
    }

    #[test]
    fn parameters_are_written_as_the_database_wants_them() {
        assert_eq!(&*statement("a = $1 AND b = $12", true), "a = ? AND b = ?");
        assert_eq!(&*statement("a = $1", false), "a = $1");
    }
}
