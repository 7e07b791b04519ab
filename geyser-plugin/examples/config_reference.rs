//! Prints `docs/guides/plugin-config.md`.

fn main() {
    print!("{}", geyser_plugin::config_reference::markdown());
}
