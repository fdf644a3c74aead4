//! The file that `scripts/bench.sh --csv` keeps.

use std::collections::BTreeMap;

/// Figures of all rounds, and what they were taken on.
#[derive(Default)]
pub struct Results {
    /// Lines that begin with `#`, by their first word: machine, date, command, servers.
    notes: BTreeMap<String, String>,
    /// By server, setting, figure.
    values: BTreeMap<(String, String, String), Vec<f64>>,
    /// In the order of the file.
    settings: Vec<String>,
}

impl Results {
    /// Reads the file's text. Lines that are no figures are passed over.
    pub fn parse(text: &str) -> Results {
        let mut results = Results::default();
        for line in text.lines() {
            if let Some((name, note)) = line.strip_prefix("# ").and_then(|l| l.split_once(": ")) {
                results.notes.insert(name.to_owned(), note.to_owned());
                continue;
            }
            let fields: Vec<&str> = line.split(',').collect();
            let &[_, server, setting, figure, value] = fields.as_slice() else { continue };
            let Ok(value) = value.parse() else { continue };
            if !results.settings.iter().any(|known| known == setting) {
                results.settings.push(setting.to_owned());
            }
            let key = (server.to_owned(), setting.to_owned(), figure.to_owned());
            results.values.entry(key).or_default().push(value);
        }
        results
    }

    /// Settings whose first word is `kind`, as their words, in the order they were measured in.
    pub fn settings(&self, kind: &str) -> Vec<Vec<&str>> {
        let words = self.settings.iter().map(|setting| setting.split(' ').collect::<Vec<_>>());
        words.filter(|words| words.first() == Some(&kind)).collect()
    }

    /// The median of a figure over the rounds.
    pub fn median(&self, server: &str, setting: &[&str], figure: &str) -> Option<f64> {
        let key = (server.to_owned(), setting.join(" "), figure.to_owned());
        median(self.values.get(&key)?.clone())
    }

    /// The median of the rounds' own ratios of two servers, as the tables have it.
    pub fn ratio(&self, server: &str, to: &str, setting: &[&str], figure: &str) -> Option<f64> {
        let values = |server: &str| {
            self.values.get(&(server.to_owned(), setting.join(" "), figure.to_owned()))
        };
        let (ours, theirs) = (values(server)?, values(to)?);
        median(ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect())
    }

    /// The servers, this one first: their names in the file, and for people.
    pub fn servers(&self) -> Vec<(String, String)> {
        let servers = self.notes.get("servers").map_or("", String::as_str).split('|');
        let pairs = servers.filter_map(|server| server.split_once('='));
        pairs.map(|(name, label)| (name.to_owned(), label.to_owned())).collect()
    }

    /// What stands below a chart: machine, date, command.
    pub fn captions(&self) -> [String; 2] {
        let note = |name| self.notes.get(name).map_or("", String::as_str);
        [format!("{} · {}", note("machine"), note("date")), note("command").to_owned()]
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    let (low, high) = (values.get(middle.saturating_sub(1))?, values.get(middle)?);
    Some(if values.len() % 2 == 1 { *high } else { f64::midpoint(*low, *high) })
}

#[cfg(test)]
mod tests {
    use super::Results;

    #[test]
    fn medians_are_of_one_server_setting_and_figure() {
        let text = "# machine: m, 2 cores\n# servers: ours=a 1|redis=b 2\n\
                    round,server,setting,figure,value\n1,ours,throughput no 50 1 SET,rate,3\n\
                    2,ours,throughput no 50 1 SET,rate,1\n1,redis,throughput no 50 1 SET,rate,9\n";
        let results = Results::parse(text);
        let settings = results.settings("throughput");
        assert_eq!(settings, [["throughput", "no", "50", "1", "SET"]]);
        assert_eq!(results.median("ours", &settings[0], "rate"), Some(2.0));
        assert_eq!(results.median("redis", &settings[0], "rate"), Some(9.0));
        assert_eq!(results.ratio("ours", "redis", &settings[0], "rate"), Some(1.0 / 3.0));
        assert_eq!(results.median("peer", &settings[0], "rate"), None);
        assert_eq!(results.servers()[1], ("redis".to_owned(), "b 2".to_owned()));
        assert_eq!(results.captions()[0], "m, 2 cores · ");
    }
}
