# --8<-- [start:write]
# --8<-- [end:write]
# --8<-- [start:read]
# --8<-- [end:read]
