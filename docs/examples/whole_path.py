"""From a base to a rollout without the command line. Run by tests/docs."""

# --8<-- [start:path]
from v2w_convert import ConvertSettings, RolloutSettings, convert, rollout, verify

base, data = "examples/doom/base", "examples/doom/data/test"
convert(base, "converted", ConvertSettings(action_dim=3))
report = verify("converted", base)
print(f"{report.ok}: {len(report.claims)} claims")
rollout("converted", data, "rollout.gif", RolloutSettings(frames=8))
# --8<-- [end:path]
