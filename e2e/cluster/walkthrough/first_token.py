"""Ask until a first token comes, and say when: python first_token.py BASE_URL MODEL BEGAN (seconds since 1970)"""

import sys
import time

import openai

PAUSE_S = 0.2


def main() -> None:
    base_url, model, began = sys.argv[1:]
    client = openai.OpenAI(base_url=base_url, api_key="none", max_retries=0, timeout=60)
    while True:
        try:
            stream = client.completions.create(model=model, prompt="Hello", max_tokens=4, stream=True)
            next(iter(stream))
        except openai.OpenAIError:
            time.sleep(PAUSE_S)
        else:
            break
    print(f"first token {time.time() - float(began):.0f} s after helm install began")


if __name__ == "__main__":
    main()
