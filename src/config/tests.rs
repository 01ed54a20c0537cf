//! What can be said without a process: rules, layers, wording. The program itself is tried in `tests/cli`.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use tempfile::NamedTempFile;

use super::schema::Schema;
use super::*;

/// A key that is good enough to sign with: base64 of 32 bytes.
const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

fn file(text: &str) -> NamedTempFile {
    let file = NamedTempFile::new().expect("a temporary file can be made");
    fs::write(file.path(), text).expect("and written");
    file
}

fn environment(variables: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))).collect()
}

fn of_text(text: &str) -> Result<Config, Vec<Problem>> {
    let file = file(text);
    load(&Sources { file: Some(file.path().to_owned()), ..Sources::default() })
}

fn of_variables(variables: &[(&str, &str)]) -> Result<Config, Vec<Problem>> {
    load(&Sources { environment: environment(variables), ..Sources::default() })
}

fn of_variable(name: &str, value: &str) -> Config {
    of_variables(&[(name, value)]).unwrap_or_else(|problems| panic!("{name}={value}: {problems:?}"))
}

/// The problems without the path of the temporary file.
fn lines(result: Result<Config, Vec<Problem>>) -> Vec<String> {
    let problems = result.expect_err("there are problems");
    let line = |problem: &Problem| {
        let place = problem.source.rsplit_once(", ").map_or(&*problem.source, |(_, line)| line);
        problem.clone().at(place).to_string()
    };
    problems.iter().map(line).collect()
}

#[test]
fn without_sources_everything_is_default() {
    assert_eq!(load(&Sources::default()), Ok(Config::default()));
    assert_eq!(Config::default().validate(), []);
}

#[test]
fn the_documented_file_has_every_setting_with_its_default_and_a_comment() {
    fn same_keys(at: &str, ours: &toml::Table, theirs: &toml::Table) {
        assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>(), "in [{at}]");
        for (key, value) in ours {
            if let (Some(ours), Some(theirs)) = (value.as_table(), theirs[key].as_table()) {
                same_keys(key, ours, theirs);
            }
        }
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/coatroom.toml");
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(load(&Sources { file: Some(path), ..Sources::default() }), Ok(Config::default()));
    same_keys("", &Config::default().to_toml().parse().unwrap(), &text.parse().unwrap());

    let all: Vec<_> = text.lines().collect();
    for pair in all.windows(2).filter(|pair| pair[1].contains(" = ") && !pair[1].starts_with('#')) {
        assert!(pair[0].starts_with('#'), "no comment above {:?}", pair[1]);
    }
}

#[test]
fn each_source_overrides_the_one_before() {
    let file =
        file("[proxy]\nlisten = \"127.0.0.1:1001\"\nbackend = \"http://127.0.0.1:2001\"\nworkers = 1\n");
    let sources = Sources {
        file: Some(file.path().to_owned()),
        environment: environment(&[
            ("COATROOM__PROXY__LISTEN", "127.0.0.1:1002"),
            ("COATROOM__PROXY__BACKEND", "http://127.0.0.1:2002"),
        ]),
        flags: vec![Flag { key: "proxy.listen", name: "--listen", value: "127.0.0.1:1003".to_owned() }],
    };
    let proxy = load(&sources).unwrap().proxy;
    assert_eq!(proxy.listen.port(), 1003, "the flag");
    assert_eq!(proxy.backend, "http://127.0.0.1:2002", "the environment");
    assert_eq!(proxy.workers, 1, "the file");
    assert_eq!(proxy.via, "coatroom", "the default");
}

#[test]
fn all_problems_are_told_at_once_each_with_key_line_and_remedy() {
    let text = r#"listen = "x"
routes = [
  { pth = "/a", session = "offf" },
  "x",
  { path = "/b", session = 3, methods = ["get"] },
]
[cookie]
naem = "x"
name = 5
same_site = "lax"
secure = "yes"
age = "soon"
http_only = 1
keys = ["c2hvcnQ=", 12345, "(hidden)"]
previous = [{ name = "old", sekure = true }]
[cooky]
name = "x"
[proxy]
listen = "8080"
trusted = ["10.0.0.x", "10.0.0.0/8"]
workers = -1
[session]
httponly = true
grace = "1 hour"
touch_interval = []
[store]
max_bytes = 99999999999999999999
max_sessions = 1.5
timeout = -1
log = { level = "info" }
"#;
    let expected = [
        "listen (line 1): unknown setting: did you mean proxy.listen?",
        "routes[0].pth (line 3): unknown setting: did you mean path?",
        "routes[0].session (line 3): unknown value \"offf\": did you mean off?",
        "routes[1] (line 4): is text: write a table in braces",
        "routes[2].session (line 5): is a number: write one of the names that its comment in config/coatroom.toml lists",
        "cookie.naem (line 8): unknown setting: did you mean cookie.name?",
        "cookie.name (line 9): is a number: write text in quotes",
        "cookie.same_site (line 10): unknown value \"lax\": did you mean Lax?",
        "cookie.secure (line 11): doesn't fit: write true, false or \"auto\"",
        "cookie.age (line 12): \"soon\" is no length of time: write seconds (90) or a text such as \"90s\", \"10 min\", \"2 weeks\"",
        "cookie.http_only (line 13): is a number: write true or false",
        "cookie.keys[1] (line 14): is a number: write text in quotes",
        "cookie.previous[0].sekure (line 15): unknown setting: choose one of name, domain, path",
        "cooky (line 16): unknown section: did you mean cookie?",
        "proxy.listen (line 19): invalid socket address syntax: write a value such as \"127.0.0.1:8080\"",
        "proxy.trusted[0] (line 20): \"10.0.0.x\" is no address: write an address, or a network such as 10.0.0.0/8",
        "proxy.workers (line 21): is negative: write a whole number, 0 or more",
        "session.httponly (line 23): unknown setting: did you mean cookie.http_only?",
        "session.touch_interval (line 25): doesn't fit: write \"auto\", seconds (90) or a text such as \"90s\"",
        "store.max_bytes (line 27): is too large a number: write a whole number, 0 or more",
        "store.max_sessions (line 28): is a number with a fraction: write a whole number, 0 or more",
        "store.timeout (line 29): -1 is negative: a length of time is not",
        "store.log (line 30): unknown setting: did you mean log?",
        // What is beside others' mistakes is still checked against the rest, and counted as the file does.
        "cookie.keys[0] (line 14): it has 5 bytes; a key has at least 32: let coatroom keys generate make one",
        "cookie.keys[2] (line 14): is (hidden), which print-config writes for a secret: put the secret there",
        "session.grace (line 24): 3600s is more than session.ended_memory, 600s: make it at most session.ended_memory: what is forgotten can't be read",
        "routes[2].methods[0] (line 5): \"get\": methods are case-sensitive: write GET",
    ];
    assert_eq!(lines(of_text(text)), expected);
}

#[test]
fn a_file_that_cannot_be_read_is_one_problem_and_the_other_sources_are_checked_too() {
    let broken = of_text("[cookie]\nname = \"x\nage = 5 5\n[cookie]\n");
    let found = lines(broken);
    assert!(found.len() >= 2, "{found:?}");
    assert!(
        found[0].contains("line 2, column ") && found[0].ends_with(": correct the TOML there"),
        "{found:?}"
    );

    let sources = Sources {
        file: Some("/nowhere/coatroom.toml".into()),
        environment: environment(&[("COATROOM__COOKIE__NAEM", "x"), ("COATROOM__COOKIE__NAME", "__Host-x")]),
        flags: Vec::new(),
    };
    let found = load(&sources).expect_err("there is no such file");
    let keys: Vec<_> = found.iter().map(|problem| (&*problem.key, &*problem.source)).collect();
    assert_eq!(keys, [("", "/nowhere/coatroom.toml"), ("cookie.naem", "COATROOM__COOKIE__NAEM")]);
    assert!(found[0].what.starts_with("can't be read"), "{found:?}");
}

#[test]
fn syntax_errors_do_not_quote_the_text() {
    for text in
        ["[headers]\nsecret = \"hunter2", "[headers]\nsecret = hunter2\n", "secret = \"hunter2\" x = 1\n"]
    {
        let found = lines(of_text(text)).join("\n");
        assert!(!found.contains("hunter2"), "{found}");
    }
}

#[test]
fn environment_variables_are_read_with_good_will() {
    assert_eq!(of_variable("COATROOM__SESSION__REALM", "12345").session.realm, "12345");
    assert_eq!(of_variable("COATROOM__SESSION__REALM", "true").session.realm, "true");
    assert_eq!(of_variable("COATROOM__SESSION__REALM", "1.10").session.realm, "1.10");
    assert_eq!(
        of_variable("COATROOM__SESSION__REALM", "2026-01-01 00:00:00").session.realm,
        "2026-01-01 00:00:00"
    );
    assert_eq!(of_variable("COATROOM__SESSION__REALM", "\"quoted\"").session.realm, "quoted");
    assert_eq!(of_variable("COATROOM__SESSION__REALM", "").session.realm, "");
    assert_eq!(of_variable("COATROOM__HEADERS__SECRET", "12345").headers.secret.expose(), "12345");
    assert_eq!(of_variable("COATROOM__COOKIE__SECURE", "auto").cookie.secure, cookie::Secure::Auto);
    assert_eq!(of_variable("COATROOM__COOKIE__SECURE", "true").cookie.secure, cookie::Secure::Always);
    assert_eq!(
        of_variable("COATROOM__COOKIE__AGE", "2 weeks").cookie.age,
        crate::time::Length::secs(1_209_600)
    );
    assert_eq!(of_variable("COATROOM__COOKIE__AGE", "90").cookie.age, crate::time::Length::secs(90));
    assert_eq!(of_variable("COATROOM__SESSION__CYCLE_ON", "a, b,").session.cycle_on, ["a", "b"]);
    assert_eq!(of_variable("COATROOM__SESSION__CYCLE_ON", "[\"a,b\"]").session.cycle_on, ["a,b"]);
    assert_eq!(of_variable("COATROOM__SESSION__CYCLE_ON", "12").session.cycle_on, ["12"]);
    assert!(of_variable("COATROOM__SESSION__CYCLE_ON", "").session.cycle_on.is_empty());
    assert_eq!(of_variable("COATROOM__PROXY__TRUSTED", "10.0.0.0/8,::1/128").proxy.trusted.len(), 2);
    let routes = of_variable("COATROOM__ROUTES", "[{path = '/static', session = 'off'}]").routes;
    assert_eq!(routes[0].session, session::Mode::Off);
}

#[test]
fn only_our_own_variables_are_read() {
    let services = [
        ("COATROOM_PORT", "tcp://10.0.0.1:80"),
        ("COATROOM_SERVICE_HOST", "10.0.0.1"),
        ("COATROOM_CONFIG", "/nowhere"),
        ("COATROOM_PROXY_LISTEN", "nonsense"),
        ("coatroom__cookie__name", "lower"),
        ("PATH", "/bin"),
    ];
    assert_eq!(of_variables(&services), Ok(Config::default()));
}

#[test]
fn problems_of_variables_and_flags_name_them() {
    let sources = Sources {
        environment: environment(&[
            ("COATROOM__", "x"),
            ("COATROOM__COOKIE", "x"),
            ("COATROOM__COOKIE__NAEM", "x"),
            ("COATROOM__COOKIE__NAME__X", "x"),
            ("COATROOM__COOKIE__SAME_SITE", "1"),
            ("COATROOM__COOKY__NAME", "x"),
            ("COATROOM__PROXY__TRUSTED", "10.0.0.0/8,x"),
            ("COATROOM__PROXY__WORKERS", "many"),
            ("COATROOM__ROUTES__0__PATH", "/x"),
            ("COATROOM__SESSION__GRACE", "1 hour"),
        ]),
        flags: vec![Flag { key: "proxy.listen", name: "--listen", value: "8080".to_owned() }],
        ..Sources::default()
    };
    let expected = [
        "\"\" (COATROOM__): unknown setting: remove it, or choose one of cookie, errors, headers, log, proxy, reload, routes, session, store, telemetry",
        "cookie (COATROOM__COOKIE): is a section, not a setting: set cookie.<key>",
        "cookie.naem (COATROOM__COOKIE__NAEM): unknown setting: did you mean cookie.name?",
        "cookie.name (COATROOM__COOKIE__NAME__X): is a setting, not a section: set it as a whole",
        "cookie.same_site (COATROOM__COOKIE__SAME_SITE): unknown value \"1\": choose one of Lax, Strict, None, \"\"",
        "cooky (COATROOM__COOKY__NAME): unknown section: did you mean cookie?",
        "proxy.trusted[1] (COATROOM__PROXY__TRUSTED): \"x\" is no address: write an address, or a network such as 10.0.0.0/8",
        "proxy.workers (COATROOM__PROXY__WORKERS): is text: write a whole number, 0 or more",
        "routes (COATROOM__ROUTES__0__PATH): is a setting, not a section: set it as a whole",
        "proxy.listen (--listen): invalid socket address syntax: write a value such as \"127.0.0.1:8080\"",
        "session.grace (COATROOM__SESSION__GRACE): 3600s is more than session.ended_memory, 600s: make it at most session.ended_memory: what is forgotten can't be read",
    ];
    assert_eq!(lines(load(&sources)), expected);
}

#[cfg(unix)]
#[test]
fn a_variable_that_is_not_utf_8_is_a_problem() {
    use std::os::unix::ffi::OsStringExt as _;
    let variables = vec![(OsString::from("COATROOM__HEADERS__SECRET"), OsString::from_vec(vec![0xff]))];
    let found = lines(load(&Sources { environment: variables, ..Sources::default() }));
    assert_eq!(
        found,
        ["headers.secret (COATROOM__HEADERS__SECRET): is not UTF-8: set it to a text in UTF-8"]
    );
}

#[test]
fn every_rule_is_enforced() {
    let long = "x".repeat(4096);
    let short = "c2hvcnQ=";
    let sealed = |more: &str| format!("store.url = 'cookie:'\nstore.encryption_keys = ['{KEY}']\n{more}");
    // (TOML, the keys that are refused)
    let table: &[(&str, &[&str])] = &[
        // [headers]
        ("headers.prefix = 'X-F-'", &[]),
        ("headers.prefix = 'X-Sess_ion.1-'", &[]),
        ("headers.prefix = 'X-R'", &["headers.prefix"]),
        ("headers.prefix = 'X-R-'", &[]),
        ("headers.prefix = 'X-'", &["headers.prefix"]),
        ("headers.prefix = 'Ab-'", &["headers.prefix"]),
        ("headers.prefix = ''", &["headers.prefix"]),
        ("headers.prefix = 'X Session-'", &["headers.prefix"]),
        ("headers.prefix = 'X-Séance-'", &["headers.prefix"]),
        ("headers.prefix = 'X-Session:-'", &["headers.prefix"]),
        ("headers.prefix = 'X-Forwarded-'", &["headers.prefix"]),
        ("headers.prefix = 'x_forwarded-'", &["headers.prefix"]),
        ("headers.prefix = 'X-Forwarded-Session-'", &["headers.prefix"]),
        ("headers.prefix = 'X-Request-'", &["headers.prefix"]),
        ("headers.prefix = 'x.request-'", &["headers.prefix"]),
        ("headers.prefix = 'Content-'", &["headers.prefix"]),
        ("headers.prefix = 'Transfer-'", &["headers.prefix"]),
        ("headers.prefix = 'Set-'", &["headers.prefix"]),
        ("headers.prefix = 'Cache-'", &["headers.prefix"]),
        ("headers.prefix = 'X-Accel-'", &["headers.prefix"]),
        ("headers.prefix = 'X-Coatroom-'", &["headers.prefix"]),
        ("headers.keys = ['member_id', 'Member-Id']", &["headers.keys[1]"]),
        ("headers.keys = ['a', 'b', 'a']", &["headers.keys[2]"]),
        ("headers.keys = ['a', '']", &["headers.keys[1]"]),
        ("headers.keys = ['_auth_user_id']", &["headers.keys[0]"]),
        ("headers.keys = ['_auth_user_id']\nheaders.expose = ['_auth_user_id']", &[]),
        ("headers.expose = ['_ok', 'name']", &["headers.expose[1]"]),
        ("headers.required = ['']", &["headers.required[0]"]),
        (
            "headers.also_strip = ['X-Real-IP', 'a b', 'host']",
            &["headers.also_strip[1]", "headers.also_strip[2]"],
        ),
        ("headers.budget = 1023", &["headers.budget"]),
        ("headers.budget = 1024", &[]),
        ("headers.max_directive_bytes = 0", &["headers.max_directive_bytes"]),
        ("headers.secret = '(hidden)'", &["headers.secret"]),
        ("headers.secret = 'x'\nheaders.secret_file = '/nowhere'", &["headers.secret_file"]),
        ("headers.secret_file = '/nowhere'", &["headers.secret_file"]),
        ("headers.secret_file = '/dev/null'", &["headers.secret_file"]),
        // [cookie]
        ("cookie.name = ''", &["cookie.name"]),
        ("cookie.name = 'a b'", &["cookie.name"]),
        ("cookie.name = 'a=b'", &["cookie.name"]),
        ("cookie.name = 'sé'", &["cookie.name"]),
        ("cookie.name = '__Host-sid'", &["cookie.name"]),
        ("cookie.name = '__Host-sid'\ncookie.secure = true", &[]),
        ("cookie.name = '__Host-sid'\ncookie.secure = 'auto'", &["cookie.name"]),
        ("cookie.name = '__Host-sid'\ncookie.secure = true\ncookie.path = '/a'", &["cookie.name"]),
        ("cookie.name = '__Host-sid'\ncookie.secure = true\ncookie.domain = 'a.example'", &["cookie.name"]),
        ("cookie.name = '__host-sid'\ncookie.secure = true", &["cookie.name"]),
        ("cookie.name = '__Secure-sid'", &["cookie.name"]),
        (
            "cookie.name = '__Secure-sid'\ncookie.secure = true\ncookie.domain = 'a.example'\ncookie.path = '/a'",
            &[],
        ),
        ("cookie.name = '__SECURE-sid'\ncookie.secure = true", &["cookie.name"]),
        ("cookie.name = '__Http-sid'\ncookie.secure = true\ncookie.http_only = false", &["cookie.name"]),
        ("cookie.name = '__Host-Http-sid'\ncookie.secure = true", &[]),
        ("cookie.same_site = 'None'", &["cookie.same_site"]),
        ("cookie.same_site = 'None'\ncookie.secure = 'auto'", &[]),
        ("cookie.same_site = 'None'\ncookie.secure = true", &[]),
        ("cookie.same_site = ''", &[]),
        ("cookie.partitioned = true", &["cookie.partitioned"]),
        ("cookie.partitioned = true\ncookie.secure = 'auto'", &["cookie.partitioned"]),
        ("cookie.partitioned = true\ncookie.secure = true", &[]),
        ("cookie.path = ''", &["cookie.path"]),
        ("cookie.path = 'a'", &["cookie.path"]),
        ("cookie.path = '/a;b'", &["cookie.path"]),
        ("cookie.path = \"/a\\n\"", &["cookie.path"]),
        ("cookie.path = '/é'", &["cookie.path"]),
        ("cookie.domain = '.example.com'", &[]),
        ("cookie.domain = 'localhost'", &[]),
        ("cookie.domain = '..example.com'", &["cookie.domain"]),
        ("cookie.domain = 'example.com.'", &["cookie.domain"]),
        ("cookie.domain = '.'", &["cookie.domain"]),
        ("cookie.domain = '-a.example'", &["cookie.domain"]),
        ("cookie.domain = 'https://example.com'", &["cookie.domain"]),
        ("cookie.domain = 'a b'", &["cookie.domain"]),
        ("cookie.age = 0", &["cookie.age"]),
        ("cookie.age = '500ms'", &["cookie.age"]),
        ("cookie.age = '400 days'", &[]),
        ("cookie.age = '401 days'", &["cookie.age"]),
        ("cookie.previous = [{ name = 'old' }, { name = 'old', domain = 'example.com' }]", &[]),
        ("cookie.previous = [{ name = 'sessionid' }]", &["cookie.previous[0]"]),
        ("cookie.previous = [{ name = 'sessionid', path = '/a' }]", &[]),
        ("cookie.previous = [{ name = 'old' }, { name = 'old' }]", &["cookie.previous[1]"]),
        (
            "cookie.domain = '.A.example'\ncookie.previous = [{ name = 'sessionid', domain = 'a.example' }]",
            &["cookie.previous[0]"],
        ),
        (
            "cookie.previous = [{ name = 'a b', domain = '-', path = 'x' }]",
            &["cookie.previous[0].name", "cookie.previous[0].domain", "cookie.previous[0].path"],
        ),
        ("cookie.previous = [{ name = '__Host-old' }]", &["cookie.previous[0].name"]),
        ("cookie.previous = [{}]", &["cookie.previous[0]"]),
        (&format!("cookie.name = '{long}'"), &["cookie.name"]),
        (&format!("cookie.path = '/{}'", &long[..1024]), &["cookie.path"]),
        (&format!("cookie.domain = '{}'", &long[..64]), &["cookie.domain"]),
        (&format!("cookie.domain = '{long}'"), &["cookie.domain"]),
        (&format!("cookie.keys = ['{KEY}']"), &[]),
        (
            &format!("cookie.keys = ['{KEY}', 'x', '{short}', ' ']"),
            &["cookie.keys[1]", "cookie.keys[2]", "cookie.keys[3]"],
        ),
        (&format!("cookie.keys = ['{KEY}']\ncookie.keys_file = '/nowhere'"), &["cookie.keys_file"]),
        ("cookie.keys_file = '/nowhere'", &["cookie.keys_file"]),
        ("cookie.keys_file = '/dev/null'", &["cookie.keys_file"]),
        (&format!("store.encryption_keys = ['{KEY}', '{KEY}']"), &[]),
        (
            &format!("store.encryption_keys = ['x', '{KEY}', '{short}', '', '(hidden)']"),
            &[
                "store.encryption_keys[0]",
                "store.encryption_keys[2]",
                "store.encryption_keys[3]",
                "store.encryption_keys[4]",
            ],
        ),
        (
            &format!("store.encryption_keys = ['{KEY}']\nstore.encryption_keys_file = '/nowhere'"),
            &["store.encryption_keys_file"],
        ),
        ("store.encryption_keys_file = '/nowhere'", &["store.encryption_keys_file"]),
        ("store.encryption_keys_file = '/dev/null'", &["store.encryption_keys_file"]),
        ("store.unsealed = 'refuse'", &["store.unsealed"]),
        ("store.unsealed = 'write'", &[]),
        (&format!("store.unsealed = 'refuse'\nstore.encryption_keys = ['{KEY}']"), &[]),
        // [proxy], [telemetry]
        ("proxy.backend = 'http://app:80'", &[]),
        ("proxy.backend = 'http://[::1]:80/'", &[]),
        ("proxy.backend = 'unix:/run/app.sock'", &[]),
        ("proxy.backend = 'unix:run/app.sock'", &["proxy.backend"]),
        ("proxy.backend = 'unix:'", &["proxy.backend"]),
        ("proxy.backend = 'https://app:443'", &["proxy.backend"]),
        ("proxy.backend = 'http://app'", &[]),
        ("proxy.backend = 'http://app:0'", &["proxy.backend"]),
        ("proxy.backend = 'http://app:80/base'", &["proxy.backend"]),
        ("proxy.backend = 'http://app:80?x'", &["proxy.backend"]),
        ("proxy.backend = 'http://me@app:80'", &["proxy.backend"]),
        ("proxy.backend = 'http://:80'", &["proxy.backend"]),
        ("proxy.backend = 'app:80'", &["proxy.backend"]),
        ("proxy.backend = 'ftp://app:80'", &["proxy.backend"]),
        ("proxy.backend = ''", &["proxy.backend"]),
        (&format!("proxy.backend = 'unix:/{}'", &long[..107]), &["proxy.backend"]),
        ("proxy.backend = 'http://127.0.0.1:8080'", &["proxy.backend"]),
        ("proxy.backend = 'http://localhost:8080'", &["proxy.backend"]),
        ("proxy.listen = '0.0.0.0:8000'", &["proxy.backend"]),
        ("telemetry.listen = '0.0.0.0:8080'", &["telemetry.listen"]),
        ("telemetry.listen = '127.0.0.2:8080'", &[]),
        ("telemetry.listen = '127.0.0.1:0'\nproxy.listen = '127.0.0.1:0'", &[]),
        ("proxy.workers = 1024", &[]),
        ("proxy.workers = 1025", &["proxy.workers"]),
        ("proxy.via = ''", &[]),
        ("proxy.via = 'a b'", &["proxy.via"]),
        ("proxy.connect_timeout = 0", &["proxy.connect_timeout"]),
        ("proxy.head_timeout = 0", &["proxy.head_timeout"]),
        ("proxy.max_tunnels = 0", &["proxy.max_tunnels"]),
        ("proxy.tunnel_idle_timeout = 0", &["proxy.tunnel_idle_timeout"]),
        ("proxy.tunnel_idle_timeout = '101 years'", &["proxy.tunnel_idle_timeout"]),
        ("proxy.header_timeout = 0", &["proxy.header_timeout"]),
        ("proxy.idle_timeout = 0", &["proxy.idle_timeout"]),
        ("proxy.body_timeout = 0", &["proxy.body_timeout"]),
        ("proxy.body_timeout = '5300 weeks'", &["proxy.body_timeout"]),
        ("proxy.backend_max_age = '5300 weeks'", &["proxy.backend_max_age"]),
        ("proxy.min_body_rate = 0", &[]),
        ("proxy.max_head_bytes = 1024", &[]),
        ("proxy.max_head_bytes = 1023", &["proxy.max_head_bytes"]),
        ("proxy.max_head_bytes = 524289", &["proxy.max_head_bytes"]),
        ("proxy.max_headers = 0", &["proxy.max_headers"]),
        ("proxy.max_headers = 10001", &["proxy.max_headers"]),
        ("proxy.max_connections = 0", &["proxy.max_connections"]),
        ("proxy.max_requests = 0", &["proxy.max_requests"]),
        ("proxy.max_backend_connections = 0", &["proxy.max_backend_connections"]),
        // [store]
        ("store.url = ''", &["store.url"]),
        ("store.url = 'memory'", &["store.url"]),
        ("store.url = 'memory:x'", &["store.url"]),
        ("store.url = 'redis://localhost'", &[]),
        ("store.url = 'rediss://app:secret@cache:6380/2'", &[]),
        ("store.url = 'redis+unix:///run/redis.sock'", &[]),
        ("store.url = 'redis://'", &["store.url"]),
        ("store.url = 'redis:localhost'", &["store.url"]),
        ("store.url = 'redis://:(hidden)@cache'", &["store.url"]),
        ("store.url = 'redis://cache'\nstore.password = '(hidden)'", &["store.password"]),
        ("store.url = 'redis://:one@cache'\nstore.password = 'two'", &["store.password"]),
        ("store.url = 'redis://cache'\nstore.password_file = '/nowhere'", &["store.password_file"]),
        ("store.url = 'redis+sentinel://a,b:26380/main/2'\nstore.sentinel_password = 'x'", &[]),
        ("store.url = 'redis+sentinel://a,b'", &["store.url"]),
        ("store.url = 'redis://cache'\nstore.sentinel_password = 'x'", &["store.sentinel_password"]),
        (
            "store.url = 'redis+sentinel://a/main'\nstore.sentinel_password_file = '/nowhere'",
            &["store.sentinel_password_file"],
        ),
        ("store.url = 'redis+sentinel://a/main'\nstore.tls_ca_file = '/etc/ca.pem'", &["store.tls_ca_file"]),
        ("store.url = 'redis+cluster://a,[::1]:7000'\nstore.wait_replicas = 1", &[]),
        ("store.url = 'redis+cluster://a/1'", &["store.url"]),
        ("store.wait_replicas = 1", &["store.wait_replicas"]),
        ("store.url = 'postgres://app@db/app'\nstore.previous = 'redis://b'\nstore.wait_replicas = 1", &[]),
        ("store.url = 'redis://cache'\nstore.tls_ca_file = '/etc/ca.pem'", &["store.tls_ca_file"]),
        ("store.url = 'rediss://cache'\nstore.tls_cert_file = '/etc/us.pem'", &["store.tls_key_file"]),
        ("store.url = 'rediss://cache'\nstore.tls_key_file = '/etc/us.key'", &["store.tls_cert_file"]),
        ("store.url = 'memcache://cache'", &[]),
        ("store.url = 'memcache://cache1,cache2:11311,[::1]'", &[]),
        ("store.url = 'memcache:cache'", &["store.url"]),
        ("store.url = 'memcache://cache,cache:11211'", &["store.url"]),
        ("store.url = 'memcache://:secret@cache'", &["store.url"]),
        ("store.url = 'memcache://cache'\nstore.password = 'x'", &["store.password"]),
        ("store.url = 'memcache://cache'\nstore.tls_ca_file = '/etc/ca.pem'", &["store.tls_ca_file"]),
        ("store.url = 'memcache://cache'\nstore.key_prefix = 'a b'", &["store.key_prefix"]),
        ("store.url = 'sqlite:///var/lib/sessions.db'", &[]),
        ("store.url = 'sqlite:sessions.db'", &["store.url"]),
        ("store.url = 'sqlite:///s.db'\nstore.table = 'a b'", &["store.table"]),
        ("store.url = 'postgres://app@db/app'", &[]),
        ("store.url = 'postgresql://app@/app?host=/run'", &[]),
        ("store.url = 'postgres://app@db/app?sslmode=prefer'", &["store.url"]),
        ("store.url = 'mysql://app@db/app'\nstore.tls_ca_file = '/nowhere'", &["store.tls_ca_file"]),
        (
            "store.url = 'mysql://app@localhost/app'\nstore.tls_ca_file = '/etc/ca.pem'",
            &["store.tls_ca_file"],
        ),
        ("store.url = 'mysql://app@db/app'\nstore.password_file = '/nowhere'", &["store.password_file"]),
        ("store.max_connections = 0", &["store.max_connections"]),
        ("store.max_connections = 10000", &[]),
        ("store.max_connections = 10001", &["store.max_connections"]),
        ("store.statement_timeout = 0", &["store.statement_timeout"]),
        ("store.expired_memory = '5300 weeks'", &["store.expired_memory"]),
        ("store.timeout = 0", &["store.timeout"]),
        ("store.commit_timeout = 0", &["store.commit_timeout"]),
        ("store.clear_interval = 0", &["store.clear_interval"]),
        ("store.clear_interval = '5300 weeks'", &["store.clear_interval"]),
        ("store.clear_interval = 'auto'", &[]),
        ("store.clear_batch = 0", &["store.clear_batch"]),
        ("store.clear_pause = 0", &[]),
        ("session.keep_expired = '5300 weeks'", &["session.keep_expired"]),
        ("store.url = 'file:///s'\nstore.cache = 'redis://cache'\nstore.commit_timeout = 3", &[]),
        ("store.url = 'file:///s'\nstore.cache = 'redis://cache'", &["store.commit_timeout"]),
        ("store.url = 'file:///s'\nstore.cache = 'redis://cache'\nstore.cache_on_error = 'fast'", &[]),
        ("store.url = 'file:///s'\nstore.cache = 'redis://'\nstore.commit_timeout = 3", &["store.cache"]),
        ("store.url = 'file:///s'\nstore.cache = 'file:///c'\nstore.commit_timeout = 3", &["store.cache"]),
        ("store.url = 'file:///s'\nstore.cache = 'memory:'\nstore.commit_timeout = 3", &[]),
        ("store.url = 'redis://a'\nstore.cache = 'memory:'", &["store.cache"]),
        (
            "store.url = 'file:///s'\nstore.cache = 'redis://:one@a'\nstore.cache_password = 'two'\nstore.commit_timeout = 3",
            &["store.cache_password"],
        ),
        (
            "store.url = 'file:///s'\nstore.cache = 'memory:'\nstore.cache_lease = 0\nstore.commit_timeout = 3",
            &["store.cache_lease"],
        ),
        ("store.url = 'cookie:'", &["store.encryption_keys"]),
        (&sealed(""), &[]),
        (&sealed("store.unsealed = 'refuse'"), &[]),
        (&sealed("store.unsealed = 'write'"), &["store.unsealed"]),
        (&sealed("").replace("cookie:", "cookie:x"), &["store.url"]),
        (&sealed(&format!("cookie.keys = ['{KEY}']")), &["cookie.keys"]),
        (&sealed("session.subject = true"), &["session.subject"]),
        (&sealed("store.cookie_chunks = 0"), &["store.cookie_chunks"]),
        (&sealed("store.cookie_chunks = 10"), &[]),
        (&sealed("store.cookie_chunks = 11"), &["store.cookie_chunks"]),
        (&sealed("store.cookie_chunks = 10\nproxy.max_head_bytes = 40000"), &["proxy.max_head_bytes"]),
        (&sealed("cookie.previous = [{ name = 'sessionid.1' }]"), &["cookie.previous[0].name"]),
        (
            &sealed("cookie.name = 'sid.3'\ncookie.previous = [{ name = 'sid' }]"),
            &["cookie.previous[0].name"],
        ),
        (&sealed("cookie.previous = [{ name = 'sessionid.10' }]"), &[]),
        (&sealed(&format!("cookie.name = '{}'", &long[..3800])), &["cookie.name"]),
        (&sealed("store.revocations = 'redis://cache'"), &[]),
        (&sealed("store.revocations = 'redis://cache'\nstore.wait_replicas = 1"), &[]),
        (&sealed("store.revocations = 'memory:'\nstore.wait_replicas = 1"), &["store.wait_replicas"]),
        (&sealed("store.revocations = 'file:///revoked'"), &[]),
        (&sealed("store.revocations = 'redis:'"), &["store.revocations"]),
        (&sealed("store.revocations = 'memory:x'"), &["store.revocations"]),
        (&sealed("store.revocations = 'file:'"), &["store.revocations"]),
        (&sealed("store.revocations = 'nowhere'"), &["store.revocations"]),
        (&sealed("store.revocations = 'cookie:'"), &["store.revocations"]),
        (&sealed("store.cache = 'memory:'"), &["store.cache"]),
        ("store.revocations = 'memory:'", &["store.revocations"]),
        ("store.cookie_chunks = 0", &["store.cookie_chunks"]),
        ("store.url = 'redis://a'\nstore.next = 'postgres://u@localhost/d'", &[]),
        ("store.url = 'redis://a'\nstore.previous = 'file:///s'\nstore.move_password = 'x'", &[]),
        ("store.url = 'redis://a'\nstore.next = 'file:///s'\nstore.previous = 'file:///t'", &["store.next"]),
        ("store.url = 'redis://a'\nstore.previous = 'redis://a'", &["store.previous"]),
        ("store.url = 'redis://a'\nstore.previous = 'memory:'", &["store.previous"]),
        ("store.next = 'redis://a'", &["store.url"]),
        ("store.url = 'redis://a'\nstore.next = 'reddis://a'", &["store.next"]),
        ("store.url = 'redis://a'\nstore.next = 'file:'", &["store.next"]),
        (
            "store.url = 'redis://a'\nstore.next = 'redis://:one@b'\nstore.move_password = 'two'",
            &["store.move_password"],
        ),
        (
            "store.url = 'redis://a'\nstore.next = 'redis://b'\nstore.move_password_file = '/nowhere'",
            &["store.move_password_file"],
        ),
        (
            "store.url = 'file:///s'\nstore.next = 'redis://b'\nstore.cache = 'redis://c'\nstore.commit_timeout = 3",
            &["store.cache"],
        ),
        ("store.url = 'file:'", &["store.url"]),
        ("store.url = 'file://'", &["store.url"]),
        ("store.url = 'file:///sessions?x'", &["store.url"]),
        ("store.url = 'file:///var/lib/coatroom'", &[]),
        ("store.max_sessions = 0", &["store.max_sessions"]),
        ("store.max_bytes = 0", &["store.max_bytes"]),
        // [session]
        ("session.max_bytes = 0", &["session.max_bytes"]),
        ("session.max_keys = 0", &["session.max_keys"]),
        ("session.grace = 600", &[]),
        ("session.grace = 601", &["session.grace"]),
        ("session.absolute_timeout = '18446744073709551615'", &["session.absolute_timeout"]),
        ("session.touch_interval = '5300 weeks'", &["session.touch_interval"]),
        ("session.cycle_on = ['']", &["session.cycle_on[0]"]),
        ("session.realm = \"a\\u0000b\"", &["session.realm"]),
        // [log]
        ("log.level = 'info,coatroom::store=debug'", &[]),
        ("log.level = 'inof'", &["log.level"]),
        ("log.level = ''", &["log.level"]),
        ("log.level = 'coatroom=loud'", &["log.level"]),
        // routes
        ("routes = [{ path = '/' }, { path = '/static/', methods = ['GET', 'PROPFIND'] }]", &[]),
        ("routes = [{ path = '' }]", &["routes[0].path"]),
        ("routes = [{ path = 'static' }]", &["routes[0].path"]),
        ("routes = [{ path = '/a?b' }]", &["routes[0].path"]),
        ("routes = [{ path = '/a#b' }]", &["routes[0].path"]),
        ("routes = [{ path = '/a//b' }]", &["routes[0].path"]),
        ("routes = [{ path = '//' }]", &["routes[0].path"]),
        ("routes = [{ path = '/./a' }]", &["routes[0].path"]),
        ("routes = [{ path = '/a/..' }]", &["routes[0].path"]),
        ("routes = [{ path = '/a/.%2E/b' }]", &["routes[0].path"]),
        ("routes = [{ path = '/a;b' }]", &["routes[0].path"]),
        ("routes = [{ path = '/a%2Fb' }]", &["routes[0].path"]),
        ("routes = [{ path = '/a%5cb' }]", &["routes[0].path"]),
        ("routes = [{ path = '/a\\b' }]", &["routes[0].path"]),
        ("routes = [{ path = '/a%20b' }]", &["routes[0].path"]),
        ("routes = [{ path = \"/a\\nb\" }]", &["routes[0].path"]),
        ("routes = [{ path = '/é/a b' }]", &[]),
        ("routes = [{ path = '/...' }]", &[]),
        (
            "routes = [{ path = '/a', methods = ['GET', 'a b', 'post'] }]",
            &["routes[0].methods[1]", "routes[0].methods[2]"],
        ),
        ("routes = [{ path = '/a' }, { path = '/a/' }]", &["routes[1]"]),
        ("routes = [{ path = '/a', methods = ['GET'] }, { path = '/a' }]", &[]),
        ("routes = [{ path = '/a' }, { path = '/a', methods = ['GET'] }]", &["routes[1]"]),
        (
            "routes = [{ path = '/a', methods = ['GET'] }, { path = '/a', methods = ['PUT', 'GET'] }]",
            &["routes[1]"],
        ),
        ("routes = [{ path = '/a', methods = ['GET'] }, { path = '/a', methods = ['PUT'] }]", &[]),
        ("routes = [{ path = '/a' }, { path = '/A' }]", &[]),
        ("routes = [{ session = 'off' }]", &["routes[0]"]),
    ];
    for (text, keys) in table {
        let problems = of_text(text).err().unwrap_or_default();
        let mut found: Vec<_> = problems.iter().map(|problem| &*problem.key).collect();
        found.dedup();
        assert_eq!(found, *keys, "{text}: {problems:?}");
        for problem in &problems {
            assert!(problem.source.contains(", line ") || problem.source == "default", "{text}: {problem}");
            assert!(!problem.what.is_empty() && !problem.remedy.is_empty(), "{text}: {problem}");
        }
    }
}

#[test]
fn one_setting_may_break_several_rules() {
    let found = lines(of_text("cookie.name = '__host-sid'\ncookie.path = '/a'"));
    let expected = [
        "cookie.name (line 1): looks like __Host- in other letters, which browsers take for it or not: write __Host-, or begin the name otherwise",
        "cookie.name (line 1): browsers refuse __Host- without cookie.secure = true: set cookie.secure = true",
        "cookie.name (line 1): browsers refuse __Host- without path = \"/\": set path = \"/\"",
    ];
    assert_eq!(found, expected);
}

#[test]
fn secrets_of_files_lose_one_newline_and_keys_are_one_a_line() {
    let secret = file("hunter2\n");
    let keys = file(&format!("{KEY}\n\n{KEY}\r\n"));
    let variables = [
        ("COATROOM__HEADERS__SECRET_FILE", secret.path().to_str().unwrap()),
        ("COATROOM__COOKIE__KEYS_FILE", keys.path().to_str().unwrap()),
    ];
    let config = of_variables(&variables).unwrap();
    let here = crate::secret::Secret::of(&config.headers.secret, &config.headers.secret_file);
    assert_eq!(here.unwrap().expose(), "hunter2");
    let found = crate::secret::Material::all(&config.cookie.keys, &config.cookie.keys_file);
    assert_eq!(found.unwrap().len(), 2);

    let keys = file(&format!("{KEY}\nhunter2hunter2\n"));
    let found = lines(of_variables(&[("COATROOM__COOKIE__KEYS_FILE", keys.path().to_str().unwrap())]));
    let expected = "cookie.keys_file (COATROOM__COOKIE__KEYS_FILE): line 2 of the file: it is not base64: let coatroom keys generate make one";
    assert_eq!(found, [expected]);

    let found = lines(of_variables(&[("COATROOM__COOKIE__KEYS_FILE", KEY)]));
    let expected = "cookie.keys_file (COATROOM__COOKIE__KEYS_FILE): can't be read (what stands there is a key, not the name of a \
                    file): name a file that can be";
    assert_eq!(found, [expected]);
}

#[test]
fn nothing_shows_a_secret() {
    let config = of_text(&format!(
        "headers.secret = 'hunter2'\ncookie.keys = ['{KEY}']\nstore.encryption_keys = ['{KEY}']"
    ));
    let config = config.unwrap();
    for text in [format!("{config:?}"), config.to_toml()] {
        assert!(!text.contains("hunter2") && !text.contains(KEY), "{text}");
        assert!(text.contains("(hidden)"), "{text}");
    }
    // In the wrong place or of the wrong type, with passwords in URLs, misspelt.
    let bad = [
        "headers.secret = ['hunter2']",
        "headers.secret = { hunter2 = 'hunter2' }",
        "headers.secrte = 'hunter2'",
        "cookie.keys = 'hunter2'",
        "cookie.keys = ['hunter2']",
        "cookie.keys = [{ key = 'hunter2' }]",
        "store.encryption_keys = 'hunter2'",
        "store.encryption_keys = ['hunter2']",
        "store.encryption_key = ['hunter2']",
        "store.url = 'redis://:hunter2@store/first'",
        "store.url = 'cookie:'\nstore.revocations = 'redis://:hunter2@store/first'",
        "store.url = 'redys://:hunter2@store/'",
        "proxy.backend = 'http://me:hunter2@app:80'",
        "proxy.backend = 'hunter2'",
    ];
    for text in bad {
        let found = lines(of_text(text)).join("\n");
        assert!(!found.contains("hunter2"), "{text}: {found}");
    }
    for name in ["COATROOM__HEADERS__SECRTE", "COATROOM__COOKIE__KEYS", "COATROOM__HEADERS__SECRET__X"] {
        let found = lines(of_variables(&[(name, "hunter2")])).join("\n");
        assert!(!found.contains("hunter2"), "{name}: {found}");
    }
}

#[test]
fn what_is_printed_can_be_read_again() {
    let text = "routes = [{ path = '/a', methods = ['GET'], session = 'no-touch' }]\n\
        cookie = { secure = 'auto', same_site = '', age = '250ms', previous = [{ name = 'old' }] }\n\
        session = { touch_interval = '5s', realm = \"a\\\"b\\n\" }\nproxy = { trusted = ['10.0.0.0/8'], forwarded = 'x-forwarded' }";
    let config = of_text(&text.replace("'250ms'", "'90s'")).unwrap();
    assert_ne!(config, Config::default());
    assert_eq!(of_text(&config.to_toml()), Ok(config));
    assert_eq!(of_text(&Config::default().to_toml()), Ok(Config::default()));
}

#[test]
fn every_setting_follows_or_waits_for_a_restart() {
    let mut settings = Vec::new();
    for (section, values) in Schema::new().defaults() {
        match values.as_dict() {
            Some(values) => settings.extend(values.keys().map(|name| format!("{section}.{name}"))),
            None => settings.push(section.clone()),
        }
    }
    let mut divided = [ONLY_BY_RESTART, FOLLOWING].concat();
    divided.sort_unstable();
    settings.sort_unstable();
    assert_eq!(divided, settings, "one that is new stands in src/config/restart.rs");
}

#[test]
fn every_file_that_a_setting_names_is_looked_at() {
    let watched = watch::files(&Config::default()).map(|(key, _)| key);
    let all = ONLY_BY_RESTART.iter().chain(FOLLOWING);
    let named: Vec<_> = all.filter(|key| key.ends_with("_file") || **key == "errors.page").collect();
    assert!(named.iter().all(|key| watched.contains(key)), "{named:?}");
    assert_eq!(named.len(), watched.len());
}

#[test]
fn what_only_a_restart_changes_keeps_its_value_and_is_named() {
    let started = Config::default();
    let text = "proxy.listen = '127.0.0.1:1'\nstore.url = 'redis://cache'\nstore.password = 'x'\ncookie.name = 'sid'";
    let new = of_text(text).unwrap();
    assert_eq!(started.waiting(&new), ["proxy.listen", "store.url", "store.password"]);
    assert_eq!(started.following(&new), ["cookie.name"]);
    let followed = started.followed_by(&new);
    assert_eq!(followed.cookie, new.cookie);
    assert_eq!((followed.proxy, followed.store), (started.proxy, started.store));
}

#[test]
fn a_problem_is_one_line() {
    let found = lines(of_text("cookie.name = \"a\\n\\u001b[31mb\"")).join("");
    assert!(!found.contains(['\n', '\u{1b}']), "{found}");
    let bare = Problem::new("a.b", "is bad", "make it good");
    assert_eq!(bare.to_string(), "a.b: is bad: make it good");
    assert_eq!(bare.at("there").to_string(), "a.b (there): is bad: make it good");
}

#[test]
fn a_cache_is_suggested_that_there_may_be() {
    let text = "store.url = 'file:///s'\nstore.commit_timeout = 3\nstore.cache = ";
    for (cache, remedy) in [
        ("'file:///c'", "choose one of memory:, redis:, "),
        ("'sqlite:///c'", "choose one of memory:, redis:, "),
        ("'redys://a'", "did you mean redis:?"),
    ] {
        let found = lines(of_text(&format!("{text}{cache}")));
        assert!(found.len() == 1 && found[0].contains(remedy), "{found:?}");
    }
}

#[test]
fn what_is_seldom_meant_is_warned_of() {
    let quiet = "store.url is memory:";
    let sealed = |more: &str| format!("store.url = 'cookie:'\nstore.encryption_keys = ['{KEY}']\n{more}");
    let table: &[(&str, &[&str])] = &[
        ("", &[quiet]),
        ("store.url = 'redis://localhost'", &[]),
        ("store.url = 'redis://cache'", &["store.url is redis://"]),
        (
            &format!("store.url = 'redis://cache'\nstore.encryption_keys = ['{KEY}']"),
            &["store.url is redis:// to another machine: the password travels in the clear"],
        ),
        ("store.url = 'rediss://cache'", &[]),
        (
            "store.url = 'rediss://a'\nstore.next = 'redis://b'",
            &["store.next is redis:// to another machine"],
        ),
        (
            "store.url = 'rediss://a'\nstore.previous = 'memcache://b'",
            &["store.previous is memcache:// to another"],
        ),
        (
            "store.url = 'rediss://a'\nstore.previous = 'mysql://app@db/app?sslmode=require'",
            &["store.previous has sslmode=require"],
        ),
        (
            "store.url = 'file:///s'\nstore.cache = 'redis://cache'\nstore.commit_timeout = 3",
            &["store.cache is redis:// to another machine"],
        ),
        ("store.url = 'postgres://app@db/app'", &[]),
        ("store.url = 'mysql://app@127.0.0.1/app'", &[]),
        ("store.url = 'mysql://app@db/app?sslmode=disable'", &["store.url has sslmode=disable"]),
        ("store.url = 'postgres://app@db/app?sslmode=require'", &["store.url has sslmode=require"]),
        (
            &format!(
                "store.url = 'rediss://cache'\nstore.encryption_keys = ['{KEY}']\nstore.unsealed = 'write'"
            ),
            &["store.unsealed is \"write\""],
        ),
        ("store.url = 'rediss://cache'\nstore.unsealed = 'write'", &[]),
        ("store.url = 'memcache://localhost,127.0.0.1'", &[]),
        ("store.url = 'memcache://localhost,cache'", &["store.url is memcache:// to another machine"]),
        (&format!("store.url = 'memcache://cache'\nstore.encryption_keys = ['{KEY}']"), &[]),
        (&sealed(""), &["store.url is cookie: and store.revocations is not set"]),
        (&sealed("store.revocations = 'file:///revoked'"), &[]),
        (&sealed("store.revocations = 'memory:'"), &["store.revocations is memory:"]),
        (&sealed("store.revocations = 'memcache://cache'"), &["store.revocations is memcache://"]),
        (
            &sealed("store.revocations = 'redis://cache'"),
            &["store.revocations is redis:// to another machine: the password travels"],
        ),
        ("proxy.backend = 'unix:/run/app.sock'", &[quiet]),
        ("proxy.backend = 'http://localhost:80'", &[quiet]),
        ("proxy.backend = 'http://[::1]:80'", &[quiet]),
        ("proxy.backend = 'http://app:80'", &[quiet, "proxy.backend is neither"]),
        ("proxy.backend = 'http://10.0.0.1:80'", &[quiet, "proxy.backend is neither"]),
        ("proxy.backend = 'http://app:80'\nheaders.secret = 'hunter2'", &[quiet]),
        ("proxy.listen = '0.0.0.0:80'", &[quiet, "cookie.secure is false"]),
        ("proxy.listen = '0.0.0.0:80'\ncookie.secure = 'auto'", &[quiet]),
    ];
    for (text, expected) in table {
        let warnings = of_text(text).unwrap().warnings();
        assert_eq!(warnings.len(), expected.len(), "{text}: {warnings:?}");
        assert!(
            warnings.iter().zip(*expected).all(|(warning, start)| warning.starts_with(start)),
            "{warnings:?}"
        );
    }
}
