import gymnasium

import v2w_convert.env

gymnasium.register_envs(v2w_convert.env)  # v2w/World-v0


def brightness(before, action, after):
    return after.mean() / 255


doom = {"world": "examples/doom/world", "starts": "examples/doom/data/test", "steps": 2}
env = gymnasium.make("v2w/World-v0", **doom, reward=brightness, max_episode_steps=20)
print(
    env.unwrapped.get_action_meanings()
)  # ['turn_left', 'turn_right', 'move_forward']

frame, info = env.reset(seed=0)  # uint8 (64, 64, 3)
moment = env.unwrapped.branch()
for action in range(3):  # what each action would lead to
    env.unwrapped.restore(moment)
    frame, reward, terminated, truncated, info = env.unwrapped.step(action)

envs = gymnasium.make_vec("v2w/World-v0", num_envs=4, **doom)  # one model, batched
frames, infos = envs.reset(seed=0)
frames, rewards, terminations, truncations, infos = envs.step(
    envs.action_space.sample()
)
