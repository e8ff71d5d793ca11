"""The page in a browser: photographs in, cells, counts and corrections out. Streamlit's part is `app` alone."""
