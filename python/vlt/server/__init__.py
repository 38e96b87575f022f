"""The HTTP server: what clients of text-embeddings-inference, OpenAI and Cohere already speak.

Needs the extra `serve`. `app` lists the routes, `endpoint` takes a request through its life,
`tei_api`, `openai_api` and `rerank_api` are what the routes do, and `running` serves them.
"""
