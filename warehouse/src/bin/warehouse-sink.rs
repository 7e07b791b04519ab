fn main() -> std::process::ExitCode {
    service_host::run::<warehouse::sink::WarehouseSink>()
}
