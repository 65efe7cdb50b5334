//! `sheaf-agent update status`: the slots and how far the update is, in lines.
//!
//! Pure. Route in: the section `update` of the status. Route out: text.

use crate::status::UpdateSection;

/// The section, a fact a line.
pub(super) fn text(update: &UpdateSection) -> String {
    let line = |name: &str, value: &str| format!("{name:<9} {value}\n");
    let or_dash = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".into());
    let mut text = line("running", &update.running);
    text += &line("other", &or_dash(&update.other));
    text += &line("staged", &or_dash(&update.staged));
    text += &line("floor", &or_dash(&update.floor));
    text += &line("loader", &or_dash(&update.boot_loader));
    text += &line("recovery", if update.has_recovery { "yes" } else { "-" });
    let place = if update.is_local { ", asked for on this node" } else { "" };
    text += &line("wanted", &(or_dash(&update.wanted) + place));
    text += &line("phase", &or_dash(&update.phase));
    if !update.message.is_empty() {
        text += &format!("! {}\n", update.message);
    }
    text.extend(update.steps.iter().map(|step| format!("  - {step}\n")));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_for_on_the_node_itself_is_told_apart_from_the_node_update() {
        let update =
            UpdateSection { wanted: Some("0.2.0".into()), is_local: true, ..UpdateSection::default() };
        assert!(text(&update).contains("wanted    0.2.0, asked for on this node\n"), "{}", text(&update));
    }

    #[test]
    fn a_release_that_was_rolled_back_is_named_with_its_reason() {
        let update = UpdateSection {
            running: "slot a: 0.1.0".into(),
            floor: Some("0.1.0".into()),
            boot_loader: Some("systemd-boot 257.9-1".into()),
            has_recovery: true,
            wanted: Some("0.2.0".into()),
            phase: Some("RolledBack".into()),
            message: "0.2.0 was rolled back: libvirt: it does not answer".into(),
            ..UpdateSection::default()
        };
        assert_eq!(
            text(&update),
            "running   slot a: 0.1.0\nother     -\nstaged    -\nfloor     0.1.0\n\
             loader    systemd-boot 257.9-1\nrecovery  yes\nwanted    0.2.0\nphase     RolledBack\n\
             ! 0.2.0 was rolled back: libvirt: it does not answer\n"
        );
    }
}
