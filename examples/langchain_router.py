"""Put a router behind LangChain: the chain stays as it is, and each answer says how sure the small model was.

Run:
    confide demo --quick
    confide serve --config confide-demo/serve.yaml
    python examples/langchain_router.py                    # in another terminal

Prints, for each city, the chain's answer, the small model's confidence and who answered. The router tells them in the
headers of its reply, which LangChain keeps when it is asked to.
"""

import os

from langchain_core.prompts import ChatPromptTemplate
from langchain_openai import ChatOpenAI
from pydantic import SecretStr

ROUTER = os.environ.get("ROUTER", "http://127.0.0.1:8000/v1")

prompt = ChatPromptTemplate.from_template("In which country is the city of {city}?")
model = ChatOpenAI(base_url=ROUTER, api_key=SecretStr("none"), model="confide", include_response_headers=True)
chain = prompt | model

for city in ("Nagoya", "Antsirabe"):
    answer = chain.invoke({"city": city})
    headers = answer.response_metadata["headers"]
    print(city)
    print(f"  answer      {answer.text}")
    print(f"  confidence  {float(headers['x-confide-confidence']):.2f}")
    print(f"  answered by {headers['x-confide-answered-by']}")
