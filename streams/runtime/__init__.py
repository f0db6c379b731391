"""What every process has: the ops port, logs, signals, exit codes and the watchdog."""
