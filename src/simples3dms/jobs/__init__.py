"""The worker door: task functions, the watchdog, and the process that runs both."""
