"""The commands by theme; `affectlocus.cli` lists them all."""
