"""python -m brokerrun: the `brokerrun` command."""

from brokerrun.cli.run import main

main()
