//! The shop's one page, rendered from `shop.html`.

use super::shop::{Action, Directive, GOODS, Visitor};

const TEMPLATE: &str = include_str!("shop.html");

/// The page of a visitor: `answered` goes out with it, `before` is the click that led here.
pub(super) fn render(visitor: &Visitor, answered: &[Directive], before: Option<Action>) -> String {
    fill(TEMPLATE, |place| match place {
        "notice" => notice(visitor).to_owned(),
        "greeting" => greeting(visitor),
        "goods" => goods(),
        "cart" => cart(visitor),
        "received" => headers(visitor.received.iter().map(|(name, value)| (name.as_str(), value.as_str()))),
        "answered" => headers(answered.iter().map(|(name, value)| (*name, value.as_str()))),
        "before" => before.map(|action| earlier(action, visitor)).unwrap_or_default(),
        _ => String::new(),
    })
}

/// Puts texts into the places `{{…}}` of a template, in one pass: what is put in is never looked at again.
fn fill(template: &str, text: impl Fn(&str) -> String) -> String {
    let mut pieces = template.split("{{");
    let mut page = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (place, rest) = piece.split_once("}}").unwrap_or((piece, ""));
        page += &text(place);
        page += rest;
    }
    page
}

fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => safe += "&amp;",
            '<' => safe += "&lt;",
            '>' => safe += "&gt;",
            '"' => safe += "&quot;",
            '\'' => safe += "&#39;",
            char => safe.push(char),
        }
    }
    safe
}

fn notice(visitor: &Visitor) -> &'static str {
    let state = visitor.received.iter().find(|(name, _)| name == "X-Session-State");
    match state.map(|(_, value)| value.as_str()) {
        None => {
            "<p class=\"notice\">This request came without session headers: you are talking to the shop itself. Whatever \
             you do here is forgotten at once. Open it through coatroom.</p>"
        }
        Some("unavailable") => {
            "<p class=\"notice\">The session store gives no answer. The shop is open, but it does not know you.</p>"
        }
        Some(_) => "",
    }
}

fn greeting(visitor: &Visitor) -> String {
    let visits = format!("This is visit number <strong>{}</strong>.", visitor.visits);
    match &visitor.user {
        Some(user) => format!(
            "<p>Welcome, <strong>{}</strong>. {visits}</p>\n\
             <form method=\"post\" action=\"/logout\"><button class=\"quiet\">Log out</button></form>",
            escape(user)
        ),
        None => format!(
            "<p>You are not logged in. {visits}</p>\n\
             <form method=\"post\" action=\"/login\"><label for=\"name\">Your name</label>\
             <input id=\"name\" name=\"name\" maxlength=\"40\" required autocomplete=\"off\">\
             <button>Log in</button></form>"
        ),
    }
}

fn goods() -> String {
    let one = |(slug, name, price): &(&str, &str, u64)| {
        format!(
            "<li><span>{name}</span><span class=\"price\">{}</span>\
             <form method=\"post\" action=\"/cart/add\"><input type=\"hidden\" name=\"item\" value=\"{slug}\">\
             <button aria-label=\"Add to cart: {name}\">Add to cart</button></form></li>\n",
            money(*price)
        )
    };
    GOODS.iter().map(one).collect()
}

fn cart(visitor: &Visitor) -> String {
    let chosen = || GOODS.iter().zip(visitor.cart).filter(|(_, count)| *count > 0);
    if chosen().next().is_none() {
        return "<p class=\"empty\">Nothing yet.</p>".to_owned();
    }
    let row = |((slug, name, price), count): (&(&str, &str, u64), u64)| {
        format!(
            "<tr><td>{count} × {name}</td><td class=\"price\">{}</td><td><form method=\"post\" action=\"/cart/remove\">\
             <input type=\"hidden\" name=\"item\" value=\"{slug}\">\
             <button class=\"quiet\" aria-label=\"Remove {name}\">Remove</button></form></td></tr>\n",
            money(price.saturating_mul(count))
        )
    };
    let sum =
        chosen().fold(0_u64, |sum, ((.., price), count)| sum.saturating_add(price.saturating_mul(count)));
    let rows: String = chosen().map(row).collect();
    format!("<table>{rows}<tr><th>Total</th><th class=\"price\">{}</th><th></th></tr></table>", money(sum))
}

fn money(cents: u64) -> String {
    format!("{}.{:02}", cents / 100, cents % 100)
}

/// The answer to an earlier request, worked out anew from what has come of it: the shop remembers nothing.
fn earlier(action: Action, visitor: &Visitor) -> String {
    let directives = action.directives(visitor);
    let list = headers(directives.iter().map(|(name, value)| (*name, value.as_str())));
    format!("<h3>Answered to your click, <code>POST {}</code></h3>\n{list}", action.path())
}

fn headers<'a>(list: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let line = |(name, value): (&str, &str)| format!("<dt>{}</dt><dd>{}</dd>\n", escape(name), escape(value));
    let lines: String = list.map(line).collect();
    if lines.is_empty() { "<p class=\"empty\">None.</p>".to_owned() } else { format!("<dl>{lines}</dl>") }
}
