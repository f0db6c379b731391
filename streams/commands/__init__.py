"""The commands that operators type beside the stages: each looks, asks or plans."""
