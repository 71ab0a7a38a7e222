"""From a base to a rollout without the command line. Run by tests/docs."""

# --8<-- [start:path]
from v2w_convert import ConvertSettings, RolloutSettings, convert, rollout, verify

convert("examples/doom/base", "converted", ConvertSettings(action_dim=3))
report = verify("converted", "examples/doom/base")
print(report.ok, len(report.claims))
rollout("converted", "examples/doom/data/test", "rollout.gif", RolloutSettings(episode=4, frames=8))
# --8<-- [end:path]
