"""What people look at: Grafana dashboards and rules, the terminal view, HTML reports."""
