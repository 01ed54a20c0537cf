//! The result: one table.

use super::Row;
use super::contestant::ALL;
use super::scenario::Scenario;

/// The table: medians of all rounds, and how far CPU time went from the least to the most.
///
/// A ratio compares what was measured in the same round, and is the median of those.
pub fn table(rows: &[Row]) -> String {
    let mut text = "| scenario | contestant | CPU µs a request (least–most) | to nginx | to Apache | p50 µs | p99 µs | requests/s | client + origin µs | rounds |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n"
        .to_owned();
    let mut scenarios: Vec<Scenario> = rows.iter().map(|row| row.scenario).collect();
    scenarios.sort_unstable();
    scenarios.dedup();
    for scenario in scenarios {
        for contestant in &ALL {
            let own: Vec<&Row> =
                rows.iter().filter(|row| row.scenario == scenario && row.name == contestant.name).collect();
            if own.is_empty() {
                continue;
            }
            // What nginx can't do is compared with what it does at its best.
            let of_nginx = if scenario.has_session() { Scenario::S0 } else { scenario };
            let of_apache = if scenario == Scenario::S2 { Scenario::S1 } else { scenario };
            let apache = if scenario.has_session() { "apache-cookie" } else { "apache" };
            let (cpu, least, most) = spread(own.iter().filter_map(|row| row.proxy));
            let cpu = cpu.map_or("–".to_owned(), |cpu| format!("{cpu:.1} ({least:.1}–{most:.1})"));
            text += &format!(
                "| {scenario:?} | {} | {cpu} | {} | {} | {:.0} | {:.0} | {:.0} | {:.1} + {:.1} | {} |\n",
                contestant.name,
                ratio(rows, &own, "nginx", of_nginx),
                ratio(rows, &own, apache, of_apache),
                median(own.iter().map(|row| row.p50)),
                median(own.iter().map(|row| row.p99)),
                median(own.iter().map(|row| row.rate)),
                median(own.iter().map(|row| row.client)),
                median(own.iter().map(|row| row.origin)),
                own.len(),
            );
        }
    }
    text
}

fn ratio(rows: &[Row], own: &[&Row], name: &str, scenario: Scenario) -> String {
    let other = |row: &&Row| {
        let same =
            |other: &&Row| other.round == row.round && other.name == name && other.scenario == scenario;
        Some(row.proxy? / rows.iter().find(same)?.proxy?)
    };
    let ratios: Vec<f64> = own.iter().filter_map(other).collect();
    if ratios.is_empty() { "–".to_owned() } else { format!("{:.2}", median(ratios.into_iter())) }
}

fn spread(values: impl Iterator<Item = f64> + Clone) -> (Option<f64>, f64, f64) {
    let (least, most) = (values.clone().fold(f64::MAX, f64::min), values.clone().fold(0.0, f64::max));
    let middle = values.clone().next().map(|_| median(values));
    (middle, least, most)
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => values[count / 2],
        count => f64::midpoint(values[count / 2 - 1], values[count / 2]),
    }
}
